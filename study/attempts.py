"""Which trials are with a worker, which go on later, and what is done when an attempt fails."""

import datetime
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from study.failures import Action, Failure, FailureKind, Policy, PolicyKind
from study.ledger import Ledger
from study.rows import Row


@dataclass
class _Running:
    phase: str
    since_s: float  # its last epoch, or its start: what it has done since then can be lost


class Attempts:
    """The attempts of all trials: begun, failed, interrupted. Every one that failed is on record."""

    def __init__(self, ledger: Ledger, policies: Mapping[PolicyKind, Policy]) -> None:
        self._ledger = ledger
        self._policies = policies
        self._running: dict[int, _Running] = {}
        self._waiting: list[int] = []
        self._adopted: dict[int, None] = {}
        self._avoid: dict[int, set[str]] = defaultdict(set)
        self._unfit: set[str] = set()

    @property
    def running(self) -> tuple[int, ...]:
        """The trials that are with a worker."""
        return tuple(self._running)

    @property
    def waiting(self) -> tuple[Row, ...]:
        """The trials that are to go on, those that were interrupted first in front."""
        return tuple(self._ledger.rows[trial] for trial in self._waiting)

    @property
    def adopted(self) -> tuple[Row, ...]:
        """The trials of earlier launches that nobody has asked for yet."""
        return tuple(self._ledger.rows[trial] for trial in self._adopted)

    @property
    def any_left(self) -> bool:
        """Whether a trial runs or waits to go on."""
        return bool(self._running or self._waiting)

    def has_phase(self, phase: str) -> bool:
        """Say whether a trial of a phase runs or waits to go on."""
        return any(running.phase == phase for running in self._running.values()) or any(
            row.cell.phase == phase for row in self.waiting
        )

    def avoided_nodes(self, trial: int) -> tuple[str, ...]:
        """Return the nodes on which a trial is not to run again."""
        return tuple(sorted(self._avoid[trial] | self._unfit))

    def adopt(self, row: Row) -> None:
        """Take over a trial that an earlier launch left behind; it goes on once it is asked for."""
        if row.status == "running":
            message = "the process that ran the study ended without a word"
            self._interrupt(row, "driver_lost", message, lost_s=0.0)
        self._adopted[row.trial] = None

    def ask_for(self, trial: int) -> None:
        """Let an adopted trial go on."""
        if trial in self._adopted:
            del self._adopted[trial]
            self._waiting.append(trial)

    def resume(self, trial: int) -> Row:
        """Begin the next attempt of a trial that waits to go on."""
        self._waiting.remove(trial)
        self.begin(self._ledger.rows[trial])
        return self._ledger.begin_attempt(trial)

    def begin(self, row: Row) -> None:
        """Take note that a trial is with a worker from now on."""
        self._running[row.trial] = _Running(row.cell.phase, time.monotonic())

    def note_epoch(self, trial: int) -> None:
        """Take note that a trial has an epoch more on record."""
        if trial in self._running:
            self._running[trial].since_s = time.monotonic()

    def ended(self, trial: int) -> None:
        """Take note that a trial has ended."""
        self._running.pop(trial, None)
        self._adopted.pop(trial, None)
        if trial in self._waiting:
            self._waiting.remove(trial)

    def interrupt(self, trial: int, reason: str) -> None:
        """Stop a trial that goes on with the next launch."""
        self._interrupt(self._ledger.rows[trial], "cancelled", reason, lost_s=self._lost_s(trial))
        self._running.pop(trial, None)

    def fail(self, trial: int, kind: PolicyKind, message: str, host: str | None, node: str | None) -> Action:
        """Record how an attempt failed, and return what is done about it; `never`: the trial has failed."""
        row = self._ledger.rows[trial]
        policy = self._policies[kind]
        action = policy.action
        if action in ("retry", "elsewhere") and _in_a_row(row, kind) >= policy.times:
            action = "never"
        failure = Failure(
            kind, message, row.attempts, row.last_epoch, self._lost_s(trial), action, host or row.host, _now()
        )
        self._ledger.record_failure(trial, failure)
        if action != "never":
            self._ledger.set_waiting(trial)
            # Only now: a trial that could not be written down (a full disk) is for the end of the launch.
            self._running.pop(trial, None)
        if action == "elsewhere" and node is not None:
            self._avoid[trial].add(node)
            if kind == "node_unfit":
                self._unfit.add(node)  # no other trial can run there either
        if action in ("retry", "elsewhere"):
            self._waiting.append(trial)
        return action

    def _interrupt(self, row: Row, kind: FailureKind, message: str, *, lost_s: float) -> None:
        failure = Failure(kind, message, row.attempts, row.last_epoch, lost_s, "retry", row.host, _now())
        self._ledger.record_failure(row.trial, failure)
        self._ledger.set_waiting(row.trial)

    def _lost_s(self, trial: int) -> float:
        running = self._running.get(trial)
        return 0.0 if running is None else round(time.monotonic() - running.since_s, 3)


def _in_a_row(row: Row, kind: FailureKind) -> int:
    """How often a trial has failed in this way since its last new epoch."""
    return sum(failure.kind == kind and failure.epoch == row.last_epoch for failure in row.failures)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
