"""What every rendering of a table says in the same way: footnotes of missing cells, and what marks mean."""

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase
from typing import Final

from analysis.statistics import ALPHA
from analysis.tables.table import Cell, Column, Table

NONE: Final = "–"  # in place of a value that is not there
BETTER: Final = "*"
WORSE: Final = "†"


def footnotes(table: Table) -> dict[str, str]:
    """Return the letter of every reason for a missing or partial cell, in the order of the cells."""
    reasons = dict.fromkeys(cell.missing for row in table.rows for cell in row.cells if cell.missing)
    return {reason: _letters(index) for index, reason in enumerate(reasons)}


def _letters(index: int) -> str:
    """0 is a, 25 is z, 26 is aa."""
    quotient, rest = divmod(index, len(ascii_lowercase))
    return (_letters(quotient - 1) if quotient else "") + ascii_lowercase[rest]


def mark(cell: Cell) -> str:
    """Return the sign of a corrected difference."""
    return {"better": BETTER, "worse": WORSE, None: ""}[cell.significant]


def legend(table: Table, best: str) -> Iterator[str]:
    """Yield what the marks mean that the table has; `best` names how the best value is printed."""
    cells = [cell for row in table.rows for cell in row.cells]
    if any(cell.best for cell in cells):
        many = any(
            sum(any(cells[index].best for cells in rows) for rows in sections(table).values()) > 1
            for index in range(len(table.columns))
        )
        yield f"{best}: the best of its column{' in each part' if many else ''}."
    marks = [
        f"{sign} {kind}"
        for kind, sign in (("better", BETTER), ("worse", WORSE))
        if any(cell.significant == kind for cell in cells)
    ]
    if marks:
        yield (
            f"{', '.join(marks)} than what it is tested against: 95 % interval without 0, and p below "
            f"{ALPHA} after Holm's correction."
        )


def groups(columns: Sequence[Column]) -> list[tuple[str | None, int]]:
    """Return the heads above the columns: neighbours' common group and how many they are."""
    spans: list[tuple[str | None, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group and column.group is not None:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return spans


def sections(table: Table) -> Mapping[str | None, list[tuple[Cell, ...]]]:
    """Return the rows by section, in their order."""
    found: dict[str | None, list[tuple[Cell, ...]]] = {}
    for row in table.rows:
        found.setdefault(row.section, []).append(row.cells)
    return found
