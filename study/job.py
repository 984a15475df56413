"""What a worker is asked to run, and what it has to say: plain values that cross a process boundary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftcl.recipes.protocol import Protocol


@dataclass(frozen=True)
class Job:
    """One trial to run."""

    trial: int
    stage: int  # its place in the recipe's chain of stages
    seed: int
    parameters: Mapping[str, Any]  # what is set on top of the recipe's defaults
    init_key: str | None  # the export that it starts from
    export_key: str | None  # the export that it leaves behind
    test: bool  # whether its chosen epoch is evaluated on the test split
    tags: Mapping[str, str | int] = field(
        default_factory=dict
    )  # what it stands for in the study, for its curves


@dataclass(frozen=True)
class News:
    """What a running trial has to say: epochs that have ended, or, once, its result or its failure."""

    trial: int
    host: str
    epochs: Mapping[int, Mapping[str, float]] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    failure: str | None = None


@dataclass(frozen=True)
class Setup:
    """What all trials of a study share."""

    out: Path
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
