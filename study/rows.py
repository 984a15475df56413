"""A trial as the ledger knows it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from study.failures import Failure, FailureKind

Status = Literal["running", "waiting", "complete", "stopped", "failed"]
"""waiting: begun, interrupted, and to go on from its last checkpoint."""


@dataclass(frozen=True)
class Cell:
    """What a trial stands for in the study: the place that it fills in the design."""

    phase: str  # search | confirm | ablation | context
    stage: str  # a stage of the recipe, or "context"
    seed: int
    arm: str | None = None  # ablation and context
    proposal: int | None = None  # search and confirm
    pretrain_key: str | None = None  # what it starts from; of a pretraining, what it exports


@dataclass(frozen=True)
class Row:
    """One trial: its place, its settings, its epochs, its end."""

    trial: int
    cell: Cell
    parameters: Mapping[str, Any]  # "group.field" -> value, where it was set on top of the recipe's defaults
    status: Status
    started_at: datetime.datetime
    ended_at: datetime.datetime | None = None
    epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # epoch -> metrics of that epoch
    host: str | None = None
    failure: str | None = None  # why it failed
    failure_kind: FailureKind | None = None
    result: Mapping[str, Any] = field(default_factory=dict)  # what the trial reported at its end
    attempts: int = 1  # how often it was handed to a worker
    failures: tuple[Failure, ...] = ()  # of its attempts, in order
    resumed: Mapping[int, int] = field(default_factory=dict)  # attempt -> the epoch that it went on from
    superseded: str | None = None  # why the study no longer counts it, although it has ended

    def spent(self, name: str) -> float:
        """Return the sum of `wall_s`, `cpu_s` or `gpu_s` over the trial's epochs and its end."""
        laps = [*self.epochs.values(), self.result.get("last_lap", {})]
        return sum(lap.get(name, 0.0) for lap in laps)

    @property
    def last_epoch(self) -> int:
        """The last epoch on record; 0 before the first."""
        return max(self.epochs, default=0)

    @property
    def repeated_epochs(self) -> int:
        """Whole epochs that were on record and had to be trained again, over all attempts."""
        known = {failure.attempt + 1: failure.epoch for failure in self.failures}
        return sum(max(0, known.get(attempt, 0) - epoch) for attempt, epoch in self.resumed.items())
