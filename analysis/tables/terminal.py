"""A table as text for a terminal: columns that do not fit go into further parts below."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from analysis.tables.marks import NONE, footnotes, groups, legend, mark, sections
from analysis.tables.table import Cell, Column, Table

_GAP = "  "


def show(table: Table, console: Console) -> None:
    """Print title, table, and below it what marks and letters mean and the notes."""
    letters = footnotes(table)
    console.print(Text(table.title, style="bold"), soft_wrap=False)
    console.print()
    for part in _parts(table, letters, console.width):
        for line in _lines(table, part, letters, console.width):
            console.print(line, no_wrap=True, overflow="ellipsis", crop=True)
        console.print()
    for reason, letter in letters.items():
        _note(console, f"[{letter}] {reason}", "yellow")
    for note in (*legend(table, "bold"), *table.notes):
        _note(console, note, "dim")


def _note(console: Console, text: str, style: str) -> None:
    for line in textwrap.wrap(text, console.width, subsequent_indent="  "):
        console.print(Text(line, style=style))


def _parts(table: Table, letters: Mapping[str, str], width: int) -> Iterator[list[int]]:
    """Yield the columns that fit side by side; the first column stands in every part."""
    widths = _widths(table, letters)
    part, used = [0], widths[0]
    for index in range(1, len(widths)):
        if len(part) > 1 and used + len(_GAP) + widths[index] > width:
            yield part
            part, used = [0], widths[0]
        part.append(index)
        used += len(_GAP) + widths[index]
    yield part


def _widths(table: Table, letters: Mapping[str, str]) -> list[int]:
    widths = [
        max([cell_len(column.name), *(cell_len(_text(row.cells[index], letters)) for row in table.rows)])
        for index, column in enumerate(table.columns)
    ]
    # A head that is wider than the columns below it widens the last of them.
    end = 0
    for group, span in groups(table.columns):
        end += span
        room = sum(widths[end - span : end]) + len(_GAP) * (span - 1)
        widths[end - 1] += max(0, cell_len(group or "") - room)
    return widths


def _lines(table: Table, part: Sequence[int], letters: Mapping[str, str], width: int) -> Iterator[Text]:
    columns = [table.columns[index] for index in part]
    every = _widths(table, letters)
    widths = [every[index] for index in part]
    if any(column.group for column in columns):
        yield _group_line(columns, widths)
    heads = [_aligned(column.name, column, room) for column, room in zip(columns, widths, strict=True)]
    yield Text(_GAP.join(heads).rstrip(), style="bold")
    yield Text("─" * (sum(widths) + len(_GAP) * (len(widths) - 1)), style="dim")
    for index, (section, rows) in enumerate(sections(table).items()):
        if index:
            yield Text("")
        if section is not None:
            for line in textwrap.wrap(section, width):
                yield Text(line, style="italic dim")
        for cells in rows:
            row = Text()
            for position, (column, room) in enumerate(zip(columns, widths, strict=True)):
                cell = cells[part[position]]
                row.append(_GAP if position else "")
                row.append(_aligned(_text(cell, letters), column, room), style=_style(cell))
            row.rstrip()
            yield row


def _group_line(columns: Sequence[Column], widths: Sequence[int]) -> Text:
    pieces, start = [], 0
    for group, span in groups(columns):
        room = sum(widths[start : start + span]) + len(_GAP) * (span - 1)
        pieces.append(f" {group} ".center(room, "─") if group and cell_len(group) + 2 < room else group or "")
        pieces[-1] += " " * (room - cell_len(pieces[-1]))
        start += span
    return Text(_GAP.join(pieces).rstrip(), style="bold")


def _text(cell: Cell, letters: Mapping[str, str]) -> str:
    text = cell.text + mark(cell)
    return f"{text or NONE} [{letters[cell.missing]}]" if cell.missing else text


def _style(cell: Cell) -> str:
    if cell.missing:
        return "yellow"
    colour = {"better": "green", "worse": "red", None: ""}[cell.significant]
    return f"bold {colour}".strip() if cell.best else colour


def _aligned(text: str, column: Column, width: int) -> str:
    space = width - cell_len(text)
    left = {"left": 0, "right": space, "center": space // 2}[column.align]
    return " " * left + text + " " * (space - left)
