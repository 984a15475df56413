"""The only epoch loop: train, evaluate, checkpoint, repeat; continue where an interrupted run stopped."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from torch import Tensor

from ftcl.training.checkpoint import Checkpoints, ForeignCheckpoint, load_checkpoint
from ftcl.training.stage import Stage

_FORMAT = "ftcl-stage-1"
_KEYS = {"stage", "weights", "history", "best", "select"}


class Selection(NamedTuple):
    """Export the epoch whose `metric` on `split` is best; the earlier one of two equals."""

    metric: str
    direction: Literal["max", "min"]
    split: str


class Chosen(NamedTuple):
    """The epoch that a stage exports, and its weights."""

    epoch: int
    weights: dict[str, Tensor]


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch: "loss/<term>" and, where the run selects, "<split>/<metric>"."""

    epoch: int
    metrics: dict[str, float]
    seconds: float
    replayed: bool  # read from the checkpoint instead of trained just now


class Run(Iterator[EpochRecord]):
    """A stage in training: its epochs one after the other, and at its end the chosen one (see `fit`).

    `resumed_epoch` is the epoch that it goes on from, 0 for a fresh start.
    """

    def __init__(
        self, stage: Stage, checkpoints: Checkpoints | None, selection: Selection | None, every: int
    ) -> None:
        self._stage = stage
        self._checkpoints = checkpoints
        self._selection = selection
        self._every = every
        self._history: list[dict[str, Any]] = []
        self._best: dict[str, Any] | None = None
        content = None if checkpoints is None else checkpoints.load()
        if content is not None:
            self._restore(content)
        self._is_fresh = content is None
        self.resumed_epoch = stage.epoch if content is not None else 0
        self._epochs = self._run()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> EpochRecord:
        return next(self._epochs)

    def chosen(self) -> Chosen:
        """The epoch and weights to hand on: of the best epoch so far or, without selection, of the last."""
        if self._best is not None:
            return Chosen(self._best["epoch"], self._best["weights"])
        return Chosen(self._stage.epoch, self._stage.export())

    def _run(self) -> Iterator[EpochRecord]:
        stage = self._stage
        for row in list(self._history):
            yield EpochRecord(row["epoch"], dict(row["metrics"]), row["seconds"], replayed=True)
        if self._is_fresh and stage.epochs == 0:
            self._save()
        while stage.epoch < stage.epochs:
            started_s = time.perf_counter()
            metrics = self._train_epoch()
            seconds = time.perf_counter() - started_s
            self._history.append({"epoch": stage.epoch, "metrics": metrics, "seconds": seconds})
            if stage.epoch % self._every == 0 or stage.epoch == stage.epochs:
                self._save()
            yield EpochRecord(stage.epoch, dict(metrics), seconds, replayed=False)

    def _train_epoch(self) -> dict[str, float]:
        stage, selection, best = self._stage, self._selection, self._best
        metrics = {f"loss/{term}": value for term, value in stage.train_epoch().items()}
        if selection is not None:
            scores = stage.evaluate(selection.split).metrics
            metrics |= {f"{selection.split}/{name}": value for name, value in scores.items()}
            value = scores[selection.metric]
            if best is None or (
                value > best["value"] if selection.direction == "max" else value < best["value"]
            ):
                self._best = {"epoch": stage.epoch, "value": value, "weights": stage.export()}
        return metrics

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        state, weights = self._stage.state_dict(), self._stage.export()
        content = {
            "format": _FORMAT,
            "stage": state,
            # Most stages export their whole network: it is then in the file once.
            "weights": None if _are_equal(weights, state.get("network")) else weights,
            "history": self._history,
            "best": self._best,
            "select": None if self._selection is None else list(self._selection),
        }
        del weights  # large, and done with unless it is in the content
        self._checkpoints.save(self._stage.epoch, content)

    def _restore(self, content: Mapping[str, Any]) -> None:
        place, stage = self._checkpoints, self._stage
        _require_format(content, str(place))
        wanted = None if self._selection is None else list(self._selection)
        if content["select"] != wanted:
            raise ForeignCheckpoint(
                f"{place}: its run chose epochs by {content['select']}, this one by {wanted}"
            )
        try:
            stage.load_state_dict(content["stage"])
        except ValueError as error:
            raise ForeignCheckpoint(f"{place} belongs to another run: {error}") from error
        if stage.epoch > stage.epochs:
            raise ForeignCheckpoint(
                f"{place} has {stage.epoch} epochs already, but {stage.epochs} are wanted"
            )
        self._history, self._best = content["history"], content["best"]


def fit(
    stage: Stage,
    *,
    checkpoints: Checkpoints | None,
    select: tuple[str, Literal["max", "min"], str] | None,
    every: int = 1,
) -> Run:
    """Train `stage` to its wanted epochs, one record per epoch.

    Epochs that `checkpoints` has are yielded first, and training continues from it bit for bit. It is written
    after each `every`-th epoch and the last, before the epoch is yielded: with every = 1 an epoch that was
    reported is never lost. With `select` the run keeps the weights of the best epoch too, among the epochs
    1..E, or 0 if no epoch is wanted. Raises ForeignCheckpoint if the checkpoint does not fit the stage,
    ValueError if it is unreadable; iterating raises NonFiniteLoss from training.
    """
    return Run(stage, checkpoints, None if select is None else Selection(*select), every)


def read_chosen(path: Path) -> Chosen:
    """The epoch and weights that the run of a checkpoint file would hand on."""
    content = load_checkpoint(path)
    _require_format(content, str(path))
    if content["best"] is not None:
        return Chosen(content["best"]["epoch"], content["best"]["weights"])
    state, weights = content["stage"], content["weights"]
    return Chosen(state["epoch"], state["network"] if weights is None else weights)


def _are_equal(weights: Mapping[str, Tensor], network: Mapping[str, Tensor] | None) -> bool:
    return (
        network is not None
        and network.keys() == weights.keys()
        and all(torch.equal(value, network[name].cpu()) for name, value in weights.items())
    )


def _require_format(content: Mapping[str, Any], name: str) -> None:
    if content.get("format") != _FORMAT or not content.keys() >= _KEYS:
        raise ValueError(f"{name} is not a checkpoint of a training run; choose or make another one")
