"""A table as text for a terminal: columns that do not fit go into further parts below."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from analysis.tables.marks import NONE, footnotes, groups, legend, mark
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
    part = [0]
    for index in range(1, len(table.columns)):
        wider = [*part, index]
        if len(part) > 1 and _width(_widths(table, wider, letters)) > width:
            yield part
            part = [0, index]
        else:
            part = wider
    yield part


def _width(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _widths(table: Table, part: Sequence[int], letters: Mapping[str, str]) -> list[int]:
    """Return how wide columns are that stand side by side."""
    widths = [
        max([cell_len(table.columns[index].name), *map(cell_len, _column(table, index, letters))])
        for index in part
    ]
    # A head that is wider than the columns below it widens the last of them.
    end = 0
    for group, span in groups([table.columns[index] for index in part]):
        end += span
        widths[end - 1] += max(0, cell_len(group or "") - _width(widths[end - span : end]))
    return widths


def _column(table: Table, index: int, letters: Mapping[str, str]) -> list[str]:
    """Return the texts of a column, so padded that marks do not push figures out of line."""
    cells = [row.cells[index] for row in table.rows]
    is_marked = any(mark(cell) for cell in cells)
    return [_text(cell, letters) + (" " if is_marked and not mark(cell) else "") for cell in cells]


def _lines(table: Table, part: Sequence[int], letters: Mapping[str, str], width: int) -> Iterator[Text]:
    columns = [table.columns[index] for index in part]
    widths = _widths(table, part, letters)
    texts = [_column(table, index, letters) for index in part]
    if any(column.group for column in columns):
        yield _group_line(columns, widths)
    heads = [_aligned(column.name, column, room) for column, room in zip(columns, widths, strict=True)]
    yield Text(_GAP.join(heads).rstrip(), style="bold")
    yield Text("─" * _width(widths), style="dim")
    section: str | None = None
    for number, row in enumerate(table.rows):
        if row.section != section:
            section = row.section
            if number:
                yield Text("")
            for line in textwrap.wrap(section or "", width):
                yield Text(line, style="italic dim")
        shown = Text()
        for position, (index, column, room) in enumerate(zip(part, columns, widths, strict=True)):
            shown.append(_GAP if position else "")
            shown.append(_aligned(texts[position][number], column, room), style=_style(row.cells[index]))
        shown.rstrip()
        yield shown


def _group_line(columns: Sequence[Column], widths: Sequence[int]) -> Text:
    pieces, start = [], 0
    for group, span in groups(columns):
        room = _width(widths[start : start + span])
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
