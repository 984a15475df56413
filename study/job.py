"""What a worker is asked to run, and what it has to say: plain values that cross a process boundary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ftcl.recipes.protocol import Protocol
from study.failures import PolicyKind


@dataclass(frozen=True)
class Job:
    """One trial to run."""

    trial: int
    stage: int  # its place in the recipe's chain of stages
    seed: int
    parameters: Mapping[str, Any]  # what is set on top of the recipe's defaults
    init: str | None  # name of the export file that it starts from (study.pretrain)
    export_key: str | None  # of the export that it leaves behind
    test: bool  # whether its chosen epoch is evaluated on the test split
    run_key: str  # names its checkpoints by what it computes, so that they outlive its number
    rungs: tuple[int, ...] = ()  # epochs after which it may be told to stop, each reported as soon as it ends
    attempt: int = 1
    avoid: tuple[str, ...] = ()  # Ray ids of nodes where it has failed
    # What it stands for in the study, for its curves.
    tags: Mapping[str, str | int] = field(default_factory=dict)

    def tells(self, epoch: int, last: int, waited_s: float, every_s: float) -> bool:
        """Say whether an epoch is told as it ends; else it goes with a later one, or with the trial's end.

        `last` is the stage's last epoch, `waited_s` the time since something was told, `every_s` the wait for
        what decides nothing.
        """
        takes_long_to_end = self.test or self.export_key is not None
        return epoch in self.rungs or (epoch == last and takes_long_to_end) or waited_s >= every_s


@dataclass(frozen=True)
class News:
    """What a running trial has to say: epochs that have ended, with or without its result or its failure.

    `resumed_epoch` is in the first news of an attempt that follows another or that finds a checkpoint.
    """

    trial: int
    attempt: int
    host: str
    node: str | None = None  # Ray's id of the machine
    resumed_epoch: int | None = None  # the epoch that the attempt goes on from
    epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    failure: str | None = None
    kind: PolicyKind | None = None  # of the failure


@dataclass(frozen=True)
class Setup:
    """What all trials of a study share."""

    out: str  # where the study lies (study.store.open_store)
    recipe: str
    data: str
    fold: int
    data_seed: int
    fingerprint: str
    protocol: Protocol
    metric: str  # chooses among epochs
    deterministic: bool
    detail_videos: tuple[str, ...]
    num_threads: int
    gpus: tuple[float, ...]  # what a trial of each stage holds
    keep: int = 2  # checkpoints of a trial
    every: int = 1  # epochs between them
    report_every_s: float = 0.0  # epochs that decide nothing are reported together for this long
    max_seconds: tuple[float | None, ...] = ()  # of an attempt of each stage
    # The driver's code and versions (study.fitness), which a worker must have too; empty: not compared.
    software: Mapping[str, Any] = field(default_factory=dict)
