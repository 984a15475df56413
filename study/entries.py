"""Which row of the ledger fills each place of the design; one that lost its place is superseded."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from study.ledger import Ledger
from study.rows import Cell, Row

_MAX_SHOWN = 3


class Entries:
    """The rows that count, by the place that they fill.

    A place is a cell without what follows from its settings. When the design comes to want other settings
    there (another winner, a changed arm), the row is superseded; it counts again as soon as its settings are
    wanted again.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._present: dict[Cell, int] = {}
        self._by_content: dict[tuple[Cell, str], int] = {}
        self._exports: dict[str, int] = {}
        for row in ledger.rows.values():
            self.add(row)

    def add(self, row: Row) -> None:
        """Enter a row of the ledger."""
        content = (row.cell, _canonical(row.parameters))
        if row.superseded is not None:
            if row.status in ("complete", "stopped"):
                self._by_content[content] = row.trial
            else:
                self._by_content.setdefault(content, row.trial)
            return
        self._by_content[content] = row.trial
        self._present[_place(row.cell)] = row.trial
        if _is_export(row.cell):
            self._exports[row.cell.pretrain_key or ""] = row.trial

    def has(self, cell: Cell, parameters: Mapping[str, Any]) -> bool:
        """Say whether a trial is there already, to count or to count again."""
        trial = self._by_content.get((cell, _canonical(parameters)))
        if trial is None:
            return False
        row = self._ledger.rows[trial]
        return row.superseded is None or (row.status in ("complete", "stopped") and not _is_export(cell))

    def make_room(self, cell: Cell, parameters: Mapping[str, Any]) -> int | None:
        """Give a place to a wanted trial; return the trial that had it with other settings, if one did."""
        content = (cell, _canonical(parameters))
        place = _place(cell)
        before = self._present.get(place)
        wanted = self._by_content.get(content) if self.has(cell, parameters) else None
        if before is not None and before != wanted:
            old = self._ledger.rows[before].parameters
            self.supersede(before, f"other settings are wanted now: {_changes(old, parameters)}")
        if wanted is not None and wanted != before:
            self._ledger.supersede(wanted, None)
            self._present[place] = wanted
        return before if before != wanted else None

    def find(self, cell: Cell) -> int | None:
        """Return the trial that fills a place."""
        return self._present.get(_place(cell))

    def supersede(self, trial: int, reason: str) -> Row:
        """Take a row's place away from it."""
        row = self._ledger.supersede(trial, reason)
        cell = row.cell
        if self._present.get(_place(cell)) == trial:
            del self._present[_place(cell)]
        if self._exports.get(cell.pretrain_key or "") == trial:
            del self._exports[cell.pretrain_key or ""]
        return row

    def present(self) -> Iterator[Row]:
        """The rows that count."""
        return (row for row in self._ledger.rows.values() if row.superseded is None)

    def export(self, key: str) -> Row | None:
        """Return the trial that makes an export, if it was started."""
        trial = self._exports.get(key)
        return None if trial is None else self._ledger.rows[trial]


def _is_export(cell: Cell) -> bool:
    return cell.arm is None and cell.proposal is None and cell.pretrain_key is not None


def _place(cell: Cell) -> Cell:
    # An export is what its key says; for any other trial the key follows from its settings.
    return cell if _is_export(cell) else replace(cell, pretrain_key=None)


def _canonical(parameters: Mapping[str, Any]) -> str:
    return json.dumps(dict(parameters), sort_keys=True)


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    differing = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    shown = [f"{name} {_show(old, name)} → {_show(new, name)}" for name in differing[:_MAX_SHOWN]]
    more = len(differing) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _show(parameters: Mapping[str, Any], name: str) -> str:
    value = parameters.get(name, "default")
    return f"{value:.4g}" if isinstance(value, float) else str(value)
