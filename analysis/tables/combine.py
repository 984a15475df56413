"""Several studies in one table: their columns side by side, below the dataset of each."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pandas as pd

from analysis.load import Study
from analysis.tables.table import Cell, NothingToShow, Row, Table


def labels(studies: Sequence[Study]) -> list[str]:
    """Return what tells studies apart, as short as it can be: data, fold, space, protocol or folder."""
    candidates = (
        [study.data for study in studies],
        [f"{study.data}, fold {study.fold}" for study in studies],
        [f"{study.data}, {study.name}" for study in studies],
        [f"{study.data}, fold {study.fold}, {study.name}" for study in studies],
        [f"{study.data}, {study.protocol}" for study in studies],
    )
    folders = [str(study.store) for study in studies]
    return next((names for names in candidates if len(set(names)) == len(studies)), folders)


def side_by_side(studies: Sequence[Study], make: Callable[[Study], Table], num_stubs: int = 1) -> Table:
    """Join the tables of studies on their sections and first columns.

    A row that a study does not have is missing there; a study that has no such table is left out, and a note
    says why. Notes that all have stand once, others with the label of their study.
    Raises NothingToShow if no study has one.
    """
    tables, shown, absent = [], [], []
    for study, name in zip(studies, labels(studies), strict=True):
        try:
            tables.append(make(study))
            shown.append(study)
        except NothingToShow as error:
            absent.append((name, str(error)))
    if not tables:
        reasons = {reason for _, reason in absent}
        if len(reasons) == 1:
            raise NothingToShow(reasons.pop())
        raise NothingToShow("; ".join(f"{name}: {reason}" for name, reason in absent))
    together = tables[0] if len(studies) == 1 else _joined(shown, tables, num_stubs)
    notes = (*together.notes, *(f"{name} is not shown: {reason}." for name, reason in absent))
    return replace(together, notes=notes)


def _joined(studies: Sequence[Study], tables: Sequence[Table], num_stubs: int) -> Table:
    names = labels(studies)
    columns = list(tables[0].columns[:num_stubs])
    for study, name, table in zip(studies, names, tables, strict=True):
        columns += [
            replace(column, group=f"{name}: {column.group}" if column.group else name, study=str(study.store))
            for column in table.columns[num_stubs:]
        ]
    parts = [{_key(row, num_stubs): row.cells for row in table.rows} for table in tables]
    rows = []
    for key in _in_order([list(part) for part in parts]):
        stubs = next(part[key] for part in parts if key in part)[:num_stubs]
        cells = list(stubs)
        for name, table, part in zip(names, tables, parts, strict=True):
            absent = Cell("", missing=f"{name} has no such row")
            cells += part[key][num_stubs:] if key in part else [absent] * (len(table.columns) - num_stubs)
        rows.append(Row(tuple(cells), section=key[0]))
    return Table(
        name=tables[0].name,
        title=f"{tables[0].title.partition(': ')[0]}: {'; '.join(names)}",
        columns=tuple(columns),
        rows=tuple(rows),
        long=combined_long(studies, [table.long for table in tables]),
        notes=_notes(names, tables),
    )


def combined_long(studies: Sequence[Study], frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the frames below each other, with the data and the folder of each study first."""
    told = [
        frame.assign(data=study.data, study=str(study.store))
        for study, frame in zip(studies, frames, strict=True)
    ]
    together = pd.concat(told, ignore_index=True)
    return together[["data", "study", *(name for name in together if name not in ("data", "study"))]]


def _key(row: Row, num_stubs: int) -> tuple[str | None, ...]:
    return (row.section, *(cell.text for cell in row.cells[:num_stubs]))


def _in_order(keys: Sequence[list[tuple[str | None, ...]]]) -> list[tuple[str | None, ...]]:
    """Return all keys; a section that several have holds the rows of all of them."""
    found: dict[str | None, dict[tuple[str | None, ...], None]] = {}
    # The order of sections is that of who has most of them.
    for section, *_ in max(keys, key=lambda part: len({key[0] for key in part})):
        found.setdefault(section, {})
    for part in keys:
        for key in part:
            found.setdefault(key[0], {})[key] = None
    return [key for section in found.values() for key in section]


def _notes(names: Sequence[str], tables: Sequence[Table]) -> tuple[str, ...]:
    shared = [note for note in tables[0].notes if all(note in table.notes for table in tables)]
    own = [
        f"{name}: {note}"
        for name, table in zip(names, tables, strict=True)
        for note in table.notes
        if note not in shared
    ]
    return (*shared, *own)
