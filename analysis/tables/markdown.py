"""A table as GitHub-flavoured Markdown."""

from collections.abc import Iterable, Mapping

from analysis.tables.marks import NONE, footnotes, groups, legend, mark, sections
from analysis.tables.table import Cell, Column, Table

_RULES = {"left": "---", "right": "---:", "center": ":---:"}


def render(table: Table) -> str:
    """Return heading, table, and below it what marks and letters mean and the notes.

    Markdown has one line of column heads: where columns share groups, these stand in it and the names below.
    """
    letters = footnotes(table)
    names = [escape(column.name) for column in table.columns]
    grouped = any(column.group for column in table.columns)
    lines = [_line(_group_heads(table.columns) if grouped else names)]
    lines.append(_line(_RULES[column.align] for column in table.columns))
    if grouped:
        lines.append(_line(f"**{name}**" if name else "" for name in names))
    for section, rows in sections(table).items():
        if section is not None:
            lines.append(_line([f"*{escape(section)}*", *[""] * (len(names) - 1)]))
        lines += [_line(_cell(cell, letters) for cell in cells) for cells in rows]
    blocks = [f"### {escape(table.title)}", "\n".join(lines)]
    notes = [f"<sup>{letter}</sup> {escape(reason)}" for reason, letter in letters.items()]
    notes += [escape(note) for note in (*legend(table, "bold"), *table.notes)]
    if notes:
        blocks.append("\n".join(f"- {note}" for note in notes))
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    text = " ".join(text.split())
    for sign in "\\`*_<[|":
        text = text.replace(sign, f"\\{sign}")
    return text


def _group_heads(columns: tuple[Column, ...]) -> list[str]:
    heads: list[str] = []
    for group, span in groups(columns):
        heads += [escape(group or ""), *[""] * (span - 1)]
    return heads


def _cell(cell: Cell, letters: Mapping[str, str]) -> str:
    text = escape(cell.text)
    if cell.best and text:
        text = f"**{text}**"
    text += escape(mark(cell))
    if cell.missing:
        text = f"{text or NONE} <sup>{letters[cell.missing]}</sup>"
    return text


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
