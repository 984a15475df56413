"""What runs next: the study's order of work as a function of its ledger.

A trial starts once the stages before it have been exported; these are trials of their own, one per key, and
trials that need one wait without holding a slot. While nothing else can start, the pretrainings of later
phases do. The agenda knows neither Ray nor processes: it hands out jobs, is told epochs, ends and deaths, and
writes the ledger: when a call returns, what it has done is on the disk. Once it is told to stop it hands out
nothing more, and every trial stops at its next report of an epoch.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from ftcl.recipes.recipe import Recipe
from study.attempts import Attempts
from study.entries import Entries
from study.exports import Exports
from study.failures import FailureKind, Policy, PolicyKind
from study.goal import Goal
from study.job import Job, News
from study.keys import Keys
from study.ledger import Ledger
from study.phases import Phase, Wanted, passes
from study.rows import Cell, Row, Status
from study.seeds import SeedPool
from study.spec import Gate
from study.starts import Starts

_DROPPED: Final = "the study no longer asks for it"


class Listener(Protocol):
    """Whoever watches a study."""

    def started(self, row: Row) -> None: ...
    def epoch(self, row: Row, epoch: int) -> None: ...
    def ended(self, row: Row) -> None: ...
    def superseded(self, row: Row) -> None: ...


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
        keys: Keys,
        gate: Gate | None,
        pretrain_early: bool,
        has_export: Callable[[str], bool],
        policies: Mapping[PolicyKind, Policy],
        max_failures: int | None,
        retry_failed: bool,
        listener: Listener,
    ) -> None:
        self._recipe = recipe
        self._ledger = ledger
        self._phases = list(phases)
        self._pools = {phase.name: phase.pool for phase in phases}
        self._fixed = fixed
        self._goal = goal
        self._gate = gate
        self._pretrain_early = pretrain_early
        self._max_failures = max_failures
        self._listener = listener
        self._last = len(recipe.stages) - 1
        self._pending: list[tuple[Cell, Mapping[str, Any]]] = []
        self._entries = Entries(ledger)
        self._attempts = Attempts(ledger, policies)
        self._exports = Exports(recipe, keys, fixed, self._entries, has_export, listener.superseded)
        self._starts = Starts(
            recipe,
            ledger,
            keys,
            self._entries,
            self._attempts,
            self._exports,
            started=listener.started,
            fail=self._fail,
            rungs=self._rungs,
        )
        self.stopping: str | None = None
        """Why nothing more is handed out; None while the study goes on."""
        stages = {stage.name for stage in recipe.stages}
        for row in [row for row in ledger.rows.values() if row.cell.stage in stages]:
            self._take_over(row, retry_failed=retry_failed)
        self._count_failures()

    def _take_over(self, row: Row, *, retry_failed: bool) -> None:
        """Find a row of an earlier launch its part in this one."""
        if row.status in ("running", "waiting") and row.superseded is not None:
            self._drop(row, row.superseded)
        elif row.status in ("running", "waiting"):
            self._attempts.adopt(row)
            if row.cell.stage != self._recipe.stages[self._last].name:
                self._attempts.ask_for(row.trial)  # a model is of use to whoever comes to need it
        elif row.status == "failed" and retry_failed and row.superseded is None:
            self._entries.supersede(row.trial, f"it failed ({row.failure_kind}) and is to be tried again")
        elif row.superseded is None:
            self._note_end(row)
        if self._ledger.rows[row.trial].superseded is None:
            for epoch in row.epochs:
                self._stops(row, epoch)

    def _drop(self, row: Row, reason: str) -> None:
        """End an interrupted trial that is not wanted any more."""
        self._entries.supersede(row.trial, reason)
        self._attempts.ended(row.trial)
        self._ledger.end(row.trial, "failed", failure=reason, failure_kind="cancelled")
        self._listener.superseded(self._ledger.rows[row.trial])

    @property
    def pools(self) -> Mapping[str, SeedPool]:
        """The seeds of every phase."""
        return self._pools

    @property
    def done(self) -> bool:
        """Whether every trial of every phase has ended."""
        return not self._phases and not self._attempts.any_left

    def next_job(self) -> Job | None:
        """Return the next trial to start; None while all that could start are running, or all are done."""
        if self.stopping is not None:
            return None
        with self._ledger.together():
            return self._find_job()

    def _find_job(self) -> Job | None:
        while self._phases:
            phase = self._phases[0]
            job = self._next_waiting() or self._first_startable()
            if job is not None:
                return job
            if self._pending and self._pretrain_early:
                break  # further proposals would wait for the same pretrained models, and be asked blindly
            fresh = phase.wanted()
            if fresh:
                for wanted in fresh:
                    self._add(wanted)
                continue
            if self._pending or not phase.exhausted() or self._attempts.has_phase(phase.name):
                break
            self._phases.pop(0)
        if not self._phases:
            for row in self._attempts.adopted:
                self._drop(row, _DROPPED)
        return self._next_waiting() or self._early_pretraining()

    def _next_waiting(self) -> Job | None:
        """Go on with the first interrupted trial whose model is there, or make a model that is missing."""
        for row in self._attempts.waiting:
            stage = self._starts.stage(row)
            key = self._exports.key(row.parameters, stage - 1, row.cell.seed)
            state = self._exports.state(key)
            if state == "complete":
                return self._starts.job(self._attempts.resume(row.trial))
            if state == "failed":
                self._fail(row, key)
            elif state is None:
                job = self._starts.export(row.cell.phase, row.parameters, stage - 1, row.cell.seed)
                if job is not None:
                    return job
        return None

    def _add(self, wanted: Wanted) -> None:
        cell = Cell(
            phase=wanted.phase,
            stage=self._recipe.stages[self._last].name,
            seed=wanted.seed,
            arm=wanted.arm,
            proposal=wanted.proposal,
            pretrain_key=self._exports.key(wanted.parameters, self._last - 1, wanted.seed),
        )
        is_there = self._entries.has(cell, wanted.parameters)
        replaced = self._entries.make_room(cell, wanted.parameters)
        if replaced is not None:
            row = self._ledger.rows[replaced]
            if row.status == "waiting":
                self._drop(row, row.superseded or _DROPPED)
            else:
                self._listener.superseded(row)
        if is_there:
            self._attempts.ask_for(self._entries.find(cell) or 0)
        else:
            self._pending.append((cell, wanted.parameters))

    def _first_startable(self) -> Job | None:
        index = 0
        while index < len(self._pending):
            cell, parameters = self._pending[index]
            state = self._exports.state(cell.pretrain_key)
            if state == "complete":
                del self._pending[index]
                return self._starts.job(self._starts.begin(cell, parameters))
            if state == "failed":
                del self._pending[index]
                self._fail(self._starts.begin(cell, parameters), cell.pretrain_key)
                continue
            if state is None:
                job = self._starts.export(cell.phase, parameters, self._last - 1, cell.seed)
                if job is not None:
                    return job
            index += 1
        return None

    def _fail(self, row: Row, key: str | None) -> None:
        """End a trial whose pretrained model will never come."""
        cause = self._exports.find(key)
        assert cause is not None
        failure = f"its pretraining, trial {cause.trial}, failed: {cause.failure}"
        self._end(row.trial, "failed", failure=failure, failure_kind="pretrain_failed")

    def _early_pretraining(self) -> Job | None:
        """Pretrain for a gate or a later phase, so that a slot is never idle before the last fine-tuning."""
        if not self._pretrain_early or self._last == 0:
            return None
        for phase in self._phases:
            for seed in (*phase.pool.undecided(), *phase.pool.ungated):
                # Not whether its file is there still: nobody may need it any more.
                if self._exports.base(seed) is None:
                    job = self._starts.export(phase.name, self._fixed, self._last - 1, seed)
                    if job is not None:
                        return job
        return None

    def take(self, news: News) -> bool:
        """Write down what a trial has to say; return True if it is to stop here."""
        with self._ledger.together():
            return self._take(news)

    def _take(self, news: News) -> bool:
        row = self._ledger.rows[news.trial]
        if row.status != "running" or news.attempt != row.attempts:
            return True  # a worker that was given up, and has not noticed
        if news.resumed_epoch is not None and news.attempt > 1:
            self._ledger.record_resumed(news.trial, news.attempt, news.resumed_epoch)
        for epoch, metrics in sorted(news.epochs.items()):
            if self._take_epoch(news.trial, epoch, metrics, news.host):
                return True
        if news.failure is not None:
            kind = news.kind or "code_error"
            self.died(news.trial, news.attempt, kind, news.failure, news.host, news.node)
        elif news.result is not None:
            self._end(news.trial, "complete", result=news.result, host=news.host)
        elif self.stopping is not None and news.epochs:
            self._interrupt(news.trial)
            return True
        return False

    def _take_epoch(self, trial: int, epoch: int, metrics: Mapping[str, float], host: str) -> bool:
        row = self._ledger.rows[trial]
        if epoch not in row.epochs:
            row = self._ledger.record_epoch(trial, epoch, metrics, host)
            self._attempts.note_epoch(trial)
            self._listener.epoch(row, epoch)
        elif epoch < row.last_epoch:
            return False  # told before a crash, and told again from the checkpoint
        if row.superseded is not None:
            self._end(trial, "failed", failure=row.superseded, failure_kind="cancelled")
            return True
        if self._stops(row, epoch):
            self._end(trial, "stopped")
            return True
        return False

    def died(
        self,
        trial: int,
        attempt: int,
        kind: PolicyKind,
        message: str,
        host: str | None = None,
        node: str | None = None,
    ) -> None:
        """Do what the policy says about a failed attempt: hand it out again, end it, or stop the study."""
        row = self._ledger.rows[trial]
        if row.status != "running" or attempt != row.attempts:
            return
        with self._ledger.together():
            action = self._attempts.fail(trial, kind, message, host, node)
            if action == "never":
                self._end(trial, "failed", failure=message, failure_kind=kind, host=host)
                self._count_failures()
            elif action == "stop":
                self.stop(message)

    def stop(self, reason: str) -> None:
        """Hand out nothing more, and stop every trial at its next report; they go on with the next launch."""
        if self.stopping is None:
            self.stopping = reason

    def close(self) -> None:
        """Leave nothing running in the ledger: what still runs goes on with the next launch."""
        with self._ledger.together():
            for trial in self._attempts.running:
                self._interrupt(trial)
            for phase in self._phases:
                phase.close()

    def _interrupt(self, trial: int) -> None:
        self._attempts.interrupt(trial, self.stopping or "the study ended")
        self._listener.ended(self._ledger.rows[trial])

    def _count_failures(self) -> None:
        if self._max_failures is None:
            return
        failed = sum(
            row.status == "failed" and row.failure_kind != "pretrain_failed"
            for row in self._entries.present()
        )
        if failed > self._max_failures:
            what = "1 trial has" if failed == 1 else f"{failed} trials have"
            self.stop(f"{what} failed, and --max-failures {self._max_failures} allows no more")

    def _end(
        self,
        trial: int,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        failure: str | None = None,
        failure_kind: FailureKind | None = None,
        host: str | None = None,
    ) -> None:
        value = (result or {}).get("metrics", {}).get(self._goal.name)
        row = self._ledger.end(
            trial,
            status,
            result=result,
            failure=failure,
            failure_kind=failure_kind,
            host=host,
            value=value,
        )
        self._attempts.ended(trial)
        if row.superseded is None:
            self._note_end(row)
        self._listener.ended(row)

    def _rungs(self, row: Row) -> tuple[int, ...]:
        """Return the epochs of a trial after which it may be stopped."""
        of_phase = (phase.rungs for phase in self._phases if phase.name == row.cell.phase)
        return () if row.cell.proposal is None else next(of_phase, ())

    def _stops(self, row: Row, epoch: int) -> bool:
        return row.cell.proposal is not None and any(
            phase.name == row.cell.phase and phase.stops(row, epoch) for phase in self._phases
        )

    def _note_end(self, row: Row) -> None:
        base = self._exports.base(row.cell.seed)
        if self._gate is not None and base is not None and row.trial == base.trial:
            for phase in self._phases:
                if row.cell.seed in phase.pool:
                    phase.pool.record(row.cell.seed, passes(row, self._gate))
        if row.cell.stage == self._recipe.stages[self._last].name:
            for phase in self._phases:
                if phase.name == row.cell.phase:
                    phase.ended(row)
