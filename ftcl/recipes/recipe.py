"""What a recipe is: an ordered list of stages, one frozen config per group, metrics with their direction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import torch

    from ftcl.data import VideoDataset
    from ftcl.training.stage import Stage

Config = Mapping[str, Any]  # group name -> instance of the group's frozen dataclass
Direction = Literal["max", "min"]


class SavedModel(NamedTuple):
    """A model from a file; `settings` (flat names to values) is None where the file does not tell them."""

    weights: "Mapping[str, torch.Tensor]"
    settings: Mapping[str, Any] | None


class BuildStage(Protocol):
    """Make a stage ready to train; raises ValueError where config, data and `init` do not fit together.

    `init` holds the weights that the previous stage exported, None for the first stage.
    """

    def __call__(
        self,
        config: Config,
        data: "VideoDataset",
        device: "torch.device",
        seed: int,
        init: "Mapping[str, torch.Tensor] | None",
    ) -> "Stage": ...


@dataclass(frozen=True)
class StageSpec:
    """One link of a recipe's chain."""

    name: str  # "pretrain" | "finetune"
    kind: str  # identity in cache keys
    key_groups: tuple[str, ...]  # config groups whose values decide what the stage exports
    selects_epoch: bool  # exports its best epoch on validation; otherwise its last
    build: BuildStage


def accept(config: Config, data: "VideoDataset") -> None:
    """The `check` of a recipe for which values within their ranges always fit the data and each other."""


@dataclass(frozen=True)
class Recipe:
    """A published method. Raise `version` by hand whenever the same config comes to mean other numbers.

    `check` raises ValueError, naming the full parameter, for what would fail only in a later stage. Like the
    rest it does not import torch.
    """

    name: str
    version: int
    title: str
    groups: Mapping[str, type]
    stages: tuple[StageSpec, ...]
    metrics: Mapping[str, Direction]
    headline: str
    defaults: Callable[[str], Config]  # preset of the data -> config
    check: Callable[[Config, "VideoDataset"], None]
    # A checkpoint of a run, or one that the authors released; ValueError for other files.
    read_model: Callable[[Path], SavedModel]
    # (data, split, seed) -> name of a reference point without learning -> its metrics
    context: Callable[["VideoDataset", str, int], Mapping[str, Mapping[str, float]]]
