"""The beginning of a trial: its row in the ledger, and the job that a worker is given."""

from collections.abc import Callable, Mapping
from typing import Any

from ftcl.recipes.recipe import Recipe
from study.attempts import Attempts
from study.entries import Entries
from study.exports import Exports
from study.job import Job
from study.keys import Keys
from study.ledger import Ledger
from study.rows import Cell, Row


class Starts:
    """Begins trials.

    `started` is told of each, `fail` ends one whose model will never come, `rungs` says after which epochs a
    trial may be stopped.
    """

    def __init__(
        self,
        recipe: Recipe,
        ledger: Ledger,
        keys: Keys,
        entries: Entries,
        attempts: Attempts,
        exports: Exports,
        *,
        started: Callable[[Row], None],
        fail: Callable[[Row, str | None], None],
        rungs: Callable[[Row], tuple[int, ...]],
    ) -> None:
        self._recipe = recipe
        self._ledger = ledger
        self._keys = keys
        self._entries = entries
        self._attempts = attempts
        self._exports = exports
        self._started = started
        self._fail = fail
        self._rungs = rungs

    def begin(self, cell: Cell, parameters: Mapping[str, Any]) -> Row:
        """Enter a new trial."""
        row = self._ledger.start(cell, parameters)
        self._entries.add(row)
        self._attempts.begin(row)
        self._started(row)
        return row

    def export(self, phase: str, parameters: Mapping[str, Any], stage: int, seed: int) -> Job | None:
        """Start the export of a stage, or the missing one before it; None while that runs or if it failed."""
        before = self._exports.key(parameters, stage - 1, seed)
        state = self._exports.state(before)
        if state is None:
            return self.export(phase, parameters, stage - 1, seed)
        if state in ("running", "waiting"):
            return None
        row = self.begin(*self._exports.trial(phase, parameters, stage, seed))
        if state == "failed":
            self._fail(row, before)
            return None
        return self.job(row)

    def job(self, row: Row) -> Job:
        """Return what a worker is to do for the present attempt of a trial."""
        stage, last = self.stage(row), len(self._recipe.stages) - 1
        init = self._exports.find(self._exports.key(row.parameters, stage - 1, row.cell.seed))
        return Job(
            trial=row.trial,
            stage=stage,
            seed=row.cell.seed,
            parameters=row.parameters,
            init=None if init is None else init.result["export"],
            export_key=row.cell.pretrain_key if stage < last else None,
            test=row.cell.phase == "ablation" and stage == last,
            run_key=self._keys.run(row),
            rungs=self._rungs(row),
            attempt=row.attempts,
            avoid=self._attempts.avoided_nodes(row.trial),
            tags={
                name: value
                for name in ("phase", "stage", "arm", "proposal", "seed")
                if (value := getattr(row.cell, name)) is not None
            },
        )

    def stage(self, row: Row) -> int:
        """Return the place of a trial's stage in the recipe."""
        return next(i for i, link in enumerate(self._recipe.stages) if link.name == row.cell.stage)
