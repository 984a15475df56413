"""What every table is, whatever it is written as: Markdown, LaTeX, CSV, HTML or a terminal."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd


class NothingToShow(ValueError):
    """The records have nothing for a table or a picture; the message says why, in words for the reader."""


@dataclass(frozen=True)
class Cell:
    """One cell: its text and what is to be seen of it."""

    text: str  # plain text, "−" and "±" as Unicode; empty where `missing` says why
    value: float | None = None  # unrounded
    trials: tuple[int, ...] = ()  # what it was computed from; of the study of its column
    missing: str | None = None  # why there is no value, or why it rests on less than was wanted
    best: bool = False  # of its column (printed bold)
    significant: Literal["better", "worse"] | None = None  # than the baseline, corrected


@dataclass(frozen=True)
class Column:
    """A column: its head, below a group that neighbours may share."""

    name: str
    group: str | None = None
    align: Literal["left", "right", "center"] = "right"
    study: str | None = None  # the folder that its trials belong to, where several studies are shown


@dataclass(frozen=True)
class Row:
    """A row of cells; `section` heads the rows that share it."""

    cells: tuple[Cell, ...]
    section: str | None = None


@dataclass(frozen=True)
class Table:
    """A table to read, and the long form behind it to compute with.

    Raises ValueError unless every row has a cell for every column.
    """

    name: str  # of its files: "ablation", "sensitivity", ...
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    long: pd.DataFrame  # one row per fact, full precision; what the CSV holds
    notes: tuple[str, ...] = field(default=())  # whole sentences below the table

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row.cells) != len(self.columns):
                raise ValueError(f"{self.name}: {len(row.cells)} cells for {len(self.columns)} columns")

    def missing(self) -> Iterator[tuple[str, str, str]]:
        """Yield (row, column, reason) of the cells that are missing or partial."""
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                if cell.missing:
                    yield row.cells[0].text, column.name, cell.missing
