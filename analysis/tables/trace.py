"""From a cell of a table back to the trials that it was computed from."""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import pandas as pd

from analysis._text import NONE
from analysis.load import Study
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table

_FACTS: Final = ("phase", "stage", "arm", "proposal", "seed", "status", "chosen_epoch", "wall_s", "host")


class Traced(NamedTuple):
    """A cell, where it stands, and the study that its trials belong to."""

    section: str | None
    row: str
    column: str
    cell: Cell
    study: Study


def find_cells(
    table: Table, studies: Sequence[Study], row: str | None = None, column: str | None = None
) -> list[Traced]:
    """Return the cells of a table, or of its rows and columns of some name.

    A column answers to its name, to its group and name, and to a metric whose part after "@" is its name.
    Raises ValueError, naming those that there are, if no row or no column has the name.
    """
    folders = {str(study.store): study for study in studies}
    labels = dict.fromkeys(each.cells[0].text for each in table.rows)
    heads = dict.fromkeys(_head(each) for each in table.columns[1:])
    if row is not None and row not in labels:
        raise ValueError(f"table {table.name} has no row {row}; it has {', '.join(labels)}")
    if column is not None and not any(_answers(each, column) for each in table.columns[1:]):
        raise ValueError(f"table {table.name} has no column {column}; it has {', '.join(heads)}")
    return [
        Traced(
            each.section,
            each.cells[0].text,
            _head(own),
            cell,
            studies[0] if own.study is None else folders[own.study],
        )
        for each in table.rows
        if row is None or each.cells[0].text == row
        for own, cell in zip(table.columns[1:], each.cells[1:], strict=True)
        if column is None or _answers(own, column)
    ]


def cell_lines(traced: Sequence[Traced]) -> Iterator[str]:
    """Yield cell by cell, in a sentence each, which trials it rests on."""
    several = len({str(found.study.store) for found in traced}) > 1
    for found in traced:
        cell = found.cell
        if not (cell.text or cell.missing or cell.trials):
            continue
        of_study = f" of {found.study.store}" if several else ""
        behind = f"trials {ranges(cell.trials)}{of_study}" if cell.trials else "no trials"
        reason = f" ({cell.missing})" if cell.missing else ""
        yield f"{_where(found)} = {cell.text or NONE}: {behind}{reason}"


def trials_table(found: Traced) -> Table:
    """Return the trials behind one cell as their records tell them; raises NothingToShow if it has none."""
    where = _where(found)
    if not found.cell.trials:
        reason = f": {found.cell.missing}" if found.cell.missing else ""
        raise NothingToShow(f"{where} rests on no trials{reason}")
    everything = pd.concat([found.study.trials, found.study.superseded])
    trials = everything[everything["trial"].isin(found.cell.trials)].sort_values("trial")
    metric = _metric(found)
    values = [name for name in (f"validation/{metric}", f"test/{metric}") if name in trials]
    facts = [name for name in _FACTS if trials[name].notna().any()]
    return Table(
        name="trace",
        title=f"{where} = {found.cell.text or NONE}, from {len(trials)} trials of {found.study.store}",
        columns=(
            Column("trial", align="left"),
            *(Column(name.replace("_", " ")) for name in (*facts, *values)),
        ),
        rows=tuple(
            Row((Cell(str(trial["trial"])), *(Cell(_text(trial[name])) for name in (*facts, *values))))
            for _, trial in trials.iterrows()
        ),
        long=trials,
    )


def ranges(numbers: Sequence[int]) -> str:
    """Return whole numbers with neighbours drawn together: 1, 4–7."""
    return ", ".join(_runs(sorted(set(numbers))))


def _runs(numbers: Sequence[int]) -> Iterator[str]:
    start = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[end - 1] + 1:
            first, last = numbers[start], numbers[end - 1]
            yield str(first) if first == last else f"{first}–{last}"
            start = end


def _where(found: Traced) -> str:
    return " · ".join(part for part in (found.section, found.row, found.column) if part)


def _head(column: Column) -> str:
    return f"{column.group} {column.name}" if column.group else column.name


def _answers(column: Column, name: str) -> bool:
    return name in (column.name, _head(column)) or (
        column.group is not None and name.partition("@")[2] == column.name
    )


def _metric(found: Traced) -> str:
    """Return the metric of the cell's column, or else the headline."""
    head = found.column.rpartition(" ")[2]
    names = (name for name in found.study.metrics if head in (name, name.partition("@")[2]))
    return next(names, found.study.headline)


def _text(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
