"""What runs next: the study's order of work as a function of its ledger.

A trial starts once the stages before it have been exported; these are trials of their own, one per key, and
trials that need one wait without holding a slot. While nothing else can start, the pretrainings of later
phases do. The agenda knows neither Ray nor processes: it hands out jobs, is told epochs and ends, and writes
the ledger.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ftcl.recipes.config import configure
from ftcl.recipes.recipe import Recipe
from study.goal import Goal
from study.job import Job, News
from study.ledger import Ledger
from study.phases import Phase, Wanted
from study.pretrain import export_key
from study.rows import Cell, Row, Status
from study.seeds import SeedPool
from study.spec import Gate


class Listener(Protocol):
    """Whoever watches a study."""

    def started(self, row: Row) -> None: ...
    def epoch(self, row: Row, epoch: int) -> None: ...
    def ended(self, row: Row) -> None: ...


@dataclass(frozen=True)
class Identity:
    """What a pretrained model's key is made of, beside its configuration and seed."""

    preset: str
    fingerprint: str
    deterministic: bool


class Agenda:
    """Hands out the trials of a study in order, and takes in what they report."""

    def __init__(
        self,
        recipe: Recipe,
        ledger: Ledger,
        phases: Sequence[Phase],
        *,
        fixed: Mapping[str, Any],
        goal: Goal,
        identity: Identity,
        gate: Gate | None,
        pretrain_early: bool,
        listener: Listener,
    ) -> None:
        self._recipe = recipe
        self._ledger = ledger
        self._phases = list(phases)
        self._pools = {phase.name: phase.pool for phase in phases}
        self._fixed = fixed
        self._goal = goal
        self._identity = identity
        self._gate = gate
        self._pretrain_early = pretrain_early
        self._listener = listener
        self._last = len(recipe.stages) - 1
        self._pending: list[tuple[Cell, Mapping[str, Any]]] = []
        self._running: dict[int, str] = {}  # trial -> phase
        self._cells: dict[Cell, int] = {}
        self._exports: dict[str, int] = {}
        self._orphans: list[int] = []
        self._base_keys: dict[int, str | None] = {}
        stages = {stage.name for stage in recipe.stages}
        for row in ledger.rows.values():
            self._index(row)
            if row.cell.stage not in stages:
                continue
            if row.status == "running":
                self._orphans.append(row.trial)
            else:
                self._note_end(row)
            for epoch in row.epochs:
                self._stops(row, epoch)

    @property
    def pools(self) -> Mapping[str, SeedPool]:
        """The seeds of every phase."""
        return self._pools

    @property
    def done(self) -> bool:
        """Whether every trial of every phase has ended."""
        return not self._phases and not self._running and not self._orphans

    def next_job(self) -> Job | None:
        """Return the next trial to start; None while all that could start are running, or all are done."""
        if self._orphans:
            return self._job(self._ledger.rows[self._orphans.pop(0)])
        while self._phases:
            phase = self._phases[0]
            job = self._first_startable()
            if job is not None:
                return job
            if self._pending and self._pretrain_early:
                break  # further proposals would wait for the same pretrained models, and be asked blindly
            fresh = phase.wanted()
            if fresh:
                for wanted in fresh:
                    self._add(wanted)
                continue
            if self._pending or not phase.exhausted() or phase.name in self._running.values():
                break
            self._phases.pop(0)
        return self._early_pretraining()

    def _add(self, wanted: Wanted) -> None:
        cell = Cell(
            phase=wanted.phase,
            stage=self._recipe.stages[self._last].name,
            seed=wanted.seed,
            arm=wanted.arm,
            proposal=wanted.proposal,
            pretrain_key=self._key(wanted.parameters, self._last - 1, wanted.seed),
        )
        if cell not in self._cells:
            self._pending.append((cell, wanted.parameters))

    def _first_startable(self) -> Job | None:
        index = 0
        while index < len(self._pending):
            cell, parameters = self._pending[index]
            state = self._export_state(cell.pretrain_key)
            if state == "complete":
                del self._pending[index]
                return self._job(self._start(cell, parameters))
            if state == "failed":
                del self._pending[index]
                self._fail(self._start(cell, parameters), cell.pretrain_key)
                continue
            if state is None:
                job = self._start_export(cell.phase, parameters, self._last - 1, cell.seed)
                if job is not None:
                    return job
            index += 1
        return None

    def _fail(self, row: Row, key: str | None) -> None:
        """End a trial whose pretrained model will never come."""
        cause = self._ledger.rows[self._exports[key or ""]]
        failure = f"its pretraining, trial {cause.trial}, failed: {cause.failure}"
        self.end(row.trial, "failed", failure=failure)

    def _export_state(self, key: str | None) -> Status | None:
        if key is None:
            return "complete"
        trial = self._exports.get(key)
        return None if trial is None else self._ledger.rows[trial].status

    def _start_export(self, phase: str, parameters: Mapping[str, Any], stage: int, seed: int) -> Job | None:
        """Start the export of a stage, or the missing one before it; None while that runs or if it failed."""
        before = self._key(parameters, stage - 1, seed)
        state = self._export_state(before)
        if state is None:
            return self._start_export(phase, parameters, stage - 1, seed)
        if state == "running":
            return None
        cell = Cell(
            phase=phase,
            stage=self._recipe.stages[stage].name,
            seed=seed,
            pretrain_key=self._key(parameters, stage, seed),
        )
        # Trials with other settings share it, so its row has what its stages read and what is fixed for all.
        groups = {group for link in self._recipe.stages[: stage + 1] for group in link.key_groups}
        read = {name: value for name, value in parameters.items() if name.split(".")[0] in groups}
        own = {**self._fixed, **read}
        row = self._start(cell, own)
        if state == "failed":
            self._fail(row, before)
            return None
        return self._job(row)

    def _early_pretraining(self) -> Job | None:
        """Pretrain for a gate or a later phase, so that a slot is never idle before the last fine-tuning."""
        if not self._pretrain_early or self._last == 0:
            return None
        for phase in self._phases:
            for seed in (*phase.pool.undecided(), *phase.pool.ungated):
                if self._export_state(self._base_key(seed)) is None:
                    job = self._start_export(phase.name, self._fixed, self._last - 1, seed)
                    if job is not None:
                        return job
        return None

    def _start(self, cell: Cell, parameters: Mapping[str, Any]) -> Row:
        row = self._ledger.start(cell, parameters)
        self._index(row)
        self._listener.started(row)
        return row

    def _index(self, row: Row) -> None:
        self._cells[row.cell] = row.trial
        if row.cell.arm is None and row.cell.proposal is None and row.cell.pretrain_key is not None:
            self._exports[row.cell.pretrain_key] = row.trial

    def _job(self, row: Row) -> Job:
        stage = next(i for i, link in enumerate(self._recipe.stages) if link.name == row.cell.stage)
        self._running[row.trial] = row.cell.phase
        return Job(
            trial=row.trial,
            stage=stage,
            seed=row.cell.seed,
            parameters=row.parameters,
            init_key=self._key(row.parameters, stage - 1, row.cell.seed),
            export_key=row.cell.pretrain_key if stage < self._last else None,
            test=row.cell.phase == "ablation" and stage == self._last,
            tags={
                name: value
                for name in ("phase", "stage", "arm", "proposal", "seed")
                if (value := getattr(row.cell, name)) is not None
            },
        )

    def _key(self, parameters: Mapping[str, Any], stage: int, seed: int) -> str | None:
        return export_key(
            self._recipe,
            configure(self._recipe, self._identity.preset, parameters),
            stage,
            fingerprint=self._identity.fingerprint,
            seed=seed,
            deterministic=self._identity.deterministic,
        )

    def _base_key(self, seed: int) -> str | None:
        if seed not in self._base_keys:
            self._base_keys[seed] = self._key(self._fixed, self._last - 1, seed)
        return self._base_keys[seed]

    def take(self, news: News) -> bool:
        """Write down what a trial has to say; return True if it is to stop here."""
        for epoch, metrics in sorted(news.epochs.items()):
            if self._take_epoch(news.trial, epoch, metrics, news.host):
                return True
        if news.failure is not None:
            self.end(news.trial, "failed", failure=news.failure, host=news.host)
        elif news.result is not None:
            self.end(news.trial, "complete", result=news.result, host=news.host)
        return False

    def _take_epoch(self, trial: int, epoch: int, metrics: Mapping[str, float], host: str) -> bool:
        row = self._ledger.rows[trial]
        if row.status != "running":
            return True
        if epoch not in row.epochs:
            row = self._ledger.record_epoch(trial, epoch, metrics, host)
            self._listener.epoch(row, epoch)
        elif epoch < max(row.epochs):
            return False  # told before a crash, and told again from the checkpoint
        if self._stops(row, epoch):
            self.end(trial, "stopped")
            return True
        return False

    def put_back(self, trial: int) -> None:
        """Hand a trial out again whose worker died; it goes on from its checkpoint."""
        if self._running.pop(trial, None) is not None and self._ledger.rows[trial].status == "running":
            self._orphans.append(trial)

    def end(
        self,
        trial: int,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        failure: str | None = None,
        host: str | None = None,
    ) -> None:
        """Write down how a trial ended; only its first end counts."""
        self._running.pop(trial, None)
        if self._ledger.rows[trial].status != "running":
            return
        value = (result or {}).get("metrics", {}).get(self._goal.name)
        row = self._ledger.end(trial, status, result=result, failure=failure, host=host, value=value)
        self._note_end(row)
        self._listener.ended(row)

    def _stops(self, row: Row, epoch: int) -> bool:
        return row.cell.proposal is not None and any(
            phase.name == row.cell.phase and phase.stops(row, epoch) for phase in self._phases
        )

    def _note_end(self, row: Row) -> None:
        if self._gate is not None and row.trial == self._exports.get(self._base_key(row.cell.seed) or ""):
            value = row.result.get("metrics", {}).get(f"validation/{self._gate.metric}", float("-inf"))
            for phase in self._phases:
                if row.cell.seed in phase.pool:
                    phase.pool.record(
                        row.cell.seed, row.status == "complete" and value >= self._gate.at_least
                    )
        if row.cell.stage == self._recipe.stages[self._last].name:
            for phase in self._phases:
                if phase.name == row.cell.phase:
                    phase.ended(row)
