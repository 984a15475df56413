"""What the epoch loop drives: one stage of a recipe."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ftcl.evaluation import Detections


class NonFiniteLoss(ArithmeticError):
    """A loss term became infinite or NaN; training cannot go on."""

    def __init__(self, epoch: int, term: str) -> None:
        # Both go to the base class so that the exception survives a process boundary.
        super().__init__(epoch, term)
        self.epoch = epoch
        self.term = term

    def __str__(self) -> str:
        return f"loss term {self.term!r} is not finite in epoch {self.epoch}; a lower learning rate may help"


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of one split, the detections behind them, and arrays of chosen videos and pairs of videos."""

    metrics: dict[str, float]
    detections: Detections
    details: dict[str, dict[str, np.ndarray]]


class Stage(ABC):
    """A network in training. `epoch` counts the finished epochs, `epochs` are wanted."""

    epochs: int
    epoch: int

    @abstractmethod
    def start_epoch(self) -> tuple[int, Iterator[tuple[Tensor, ...]]]:
        """The number of steps of a new epoch, and an iterator that trains one step each time it is asked.

        It yields the step's loss terms. `train_epoch` runs it to its end; who only wants to know what a step
        costs need not.
        """

    @abstractmethod
    def train_epoch(self) -> dict[str, float]:
        """Train for one epoch; the mean of every loss term over the steps. Raises NonFiniteLoss."""

    @abstractmethod
    def evaluate(self, split: str, *, detail_videos: Sequence[str] = ()) -> Evaluation:
        """Detect the actions of a split with the present weights, and score the detections."""

    @abstractmethod
    def export(self) -> dict[str, Tensor]:
        """The weights, on the CPU, that the next stage starts from."""

    @abstractmethod
    def load_export(self, weights: Mapping[str, Tensor]) -> None:
        """Put exported weights in place, to evaluate them."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """What training continues from, bit for bit: tensors, numbers, strings, lists and dicts."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state; ValueError says how its config, data or shapes differ."""
