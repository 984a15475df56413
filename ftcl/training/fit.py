"""The only epoch loop: train, evaluate, checkpoint, repeat; continue where an interrupted run stopped."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ftcl.training.checkpoint import load_checkpoint, save_checkpoint
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


def fit(
    stage: Stage, *, checkpoint: Path | None, select: tuple[str, Literal["max", "min"], str] | None
) -> Iterator[EpochRecord]:
    """Train `stage` to its wanted epochs, one record per epoch.

    Where `checkpoint` exists, its epochs are yielded first and training continues from it bit for bit;
    it is rewritten before a new epoch is yielded, so an epoch that was reported is never lost. With `select`
    it keeps the weights of the best epoch too, among the epochs 1..E, or 0 if no epoch is wanted; `chosen`
    returns them. Raises ValueError if the checkpoint does not fit the stage, NonFiniteLoss from training.
    """
    selection = None if select is None else Selection(*select)
    if selection is not None and checkpoint is None:
        raise ValueError("choosing an epoch needs a checkpoint file to keep its weights; give one")
    history: list[dict[str, Any]] = []
    best: dict[str, Any] | None = None
    if checkpoint is not None and checkpoint.exists():
        content = _read(checkpoint)
        _restore(stage, content, selection, checkpoint)
        history, best = content["history"], content["best"]
        for row in history:
            yield EpochRecord(row["epoch"], dict(row["metrics"]), row["seconds"], replayed=True)
    elif checkpoint is not None and stage.epochs == 0:
        _write(checkpoint, stage, history, best, selection)

    while stage.epoch < stage.epochs:
        started_s = time.perf_counter()
        metrics = {f"loss/{term}": value for term, value in stage.train_epoch().items()}
        if selection is not None:
            scores = stage.evaluate(selection.split).metrics
            metrics |= {f"{selection.split}/{name}": value for name, value in scores.items()}
            value = scores[selection.metric]
            if best is None or (
                value > best["value"] if selection.direction == "max" else value < best["value"]
            ):
                best = {"epoch": stage.epoch, "value": value, "weights": stage.export()}
        seconds = time.perf_counter() - started_s
        history.append({"epoch": stage.epoch, "metrics": metrics, "seconds": seconds})
        if checkpoint is not None:
            _write(checkpoint, stage, history, best, selection)
        yield EpochRecord(stage.epoch, dict(metrics), seconds, replayed=False)


def chosen(source: Path | Stage) -> Chosen:
    """The epoch and weights to hand on: of a run's checkpoint or, without selection, of the stage."""
    if isinstance(source, Stage):
        return Chosen(source.epoch, source.export())
    content = _read(source)
    if content["best"] is not None:
        return Chosen(content["best"]["epoch"], content["best"]["weights"])
    state, weights = content["stage"], content["weights"]
    return Chosen(state["epoch"], state["network"] if weights is None else weights)


def _write(
    path: Path,
    stage: Stage,
    history: list[dict[str, Any]],
    best: Mapping[str, Any] | None,
    selection: Selection | None,
) -> None:
    state, weights = stage.state_dict(), stage.export()
    content = {
        "format": _FORMAT,
        "stage": state,
        # Most stages export their whole network: it is then in the file once.
        "weights": None if _are_equal(weights, state.get("network")) else weights,
        "history": history,
        "best": best,
        "select": None if selection is None else list(selection),
    }
    save_checkpoint(path, content)


def _are_equal(weights: Mapping[str, Tensor], network: Mapping[str, Tensor] | None) -> bool:
    return (
        network is not None
        and network.keys() == weights.keys()
        and all(torch.equal(value, network[name].cpu()) for name, value in weights.items())
    )


def _read(path: Path) -> dict[str, Any]:
    content = load_checkpoint(path)
    if content.get("format") != _FORMAT or not content.keys() >= _KEYS:
        raise ValueError(f"{path} is not a checkpoint of a training run; choose or make another one")
    return content


def _restore(stage: Stage, content: Mapping[str, Any], selection: Selection | None, path: Path) -> None:
    wanted = None if selection is None else list(selection)
    if content["select"] != wanted:
        raise ValueError(f"{path}: its run chose epochs by {content['select']}, this one by {wanted}")
    try:
        stage.load_state_dict(content["stage"])
    except ValueError as error:
        raise ValueError(f"{path} belongs to another run: {error}") from error
    if stage.epoch > stage.epochs:
        raise ValueError(f"{path} has {stage.epoch} epochs already, but {stage.epochs} are wanted")
