"""A table as a fragment of HTML; everything in it is escaped."""

from collections.abc import Iterable, Mapping
from html import escape
from typing import Final

from analysis._words import numbered
from analysis.tables.marks import NONE, footnotes, groups, legend, mark, sections
from analysis.tables.table import Cell, Column, Table

_MAX_TRIALS: Final = 24  # named in a cell; a cell of a long search rests on thousands


def render(table: Table) -> str:
    """Return a <table> and, if it needs one, a <ul class="notes"> after it; neither has a heading.

    Classes of cells: left, right or center, best, better, worse, missing; a `title` says why a cell is
    missing and which trials it rests on. Rows that head a section have the class section.
    """
    letters = footnotes(table)
    bodies = "".join(
        _body(table.columns, section, rows, letters) for section, rows in sections(table).items()
    )
    notes = [f"<sup>{letter}</sup> {escape(reason)}" for reason, letter in letters.items()]
    notes += [escape(note) for note in (*legend(table, "Bold"), *table.notes)]
    items = "".join(f"<li>{note}</li>\n" for note in notes)
    below = f'<ul class="notes">\n{items}</ul>\n' if notes else ""
    return f'<table class="{escape(table.name)}">\n{_head(table.columns)}{bodies}</table>\n{below}'


def _head(columns: tuple[Column, ...]) -> str:
    lines = []
    if any(column.group for column in columns):
        cells = (
            f'<th colspan="{span}" scope="colgroup" class="center">{escape(group)}</th>'
            if group
            else "<td></td>"
            for group, span in groups(columns)
        )
        lines.append(f'<tr class="groups">{"".join(cells)}</tr>\n')
    cells = (f'<th scope="col" class="{column.align}">{escape(column.name)}</th>' for column in columns)
    lines.append(f"<tr>{''.join(cells)}</tr>\n")
    return f"<thead>\n{''.join(lines)}</thead>\n"


def _body(
    columns: tuple[Column, ...],
    section: str | None,
    rows: Iterable[tuple[Cell, ...]],
    letters: Mapping[str, str],
) -> str:
    lines = []
    if section is not None:
        head = f'<th colspan="{len(columns)}" scope="rowgroup">{escape(section)}</th>'
        lines.append(f'<tr class="section">{head}</tr>\n')
    for cells in rows:
        content = "".join(
            _cell(cell, column, letters, "td" if index else "th")
            for index, (cell, column) in enumerate(zip(cells, columns, strict=True))
        )
        lines.append(f"<tr>{content}</tr>\n")
    return f"<tbody>\n{''.join(lines)}</tbody>\n"


def _cell(cell: Cell, column: Column, letters: Mapping[str, str], tag: str) -> str:
    flags = (("best", cell.best), (str(cell.significant), cell.significant), ("missing", cell.missing))
    classes = " ".join([column.align, *(name for name, is_set in flags if is_set)])
    scope = ' scope="row"' if tag == "th" else ""
    title = "; ".join(part for part in (cell.missing, _trials(cell)) if part)
    title = f' title="{escape(title)}"' if title else ""
    text = escape(cell.text or (NONE if cell.missing else "")) + mark(cell)
    if cell.missing:
        text += f"<sup>{letters[cell.missing]}</sup>"
    return f'<{tag}{scope} class="{classes}"{title}>{text}</{tag}>'


def _trials(cell: Cell) -> str:
    if not cell.trials:
        return ""
    if len(cell.trials) > _MAX_TRIALS:
        return f"{len(cell.trials)} trials"
    return numbered("trial", cell.trials)
