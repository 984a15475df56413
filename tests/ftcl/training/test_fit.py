"""The epoch loop: history, selection, continuation, and refusal of files that do not belong to the run."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ftcl.evaluation import Detections
from ftcl.training import (
    Evaluation,
    FileCheckpoint,
    ForeignCheckpoint,
    NonFiniteLoss,
    Stage,
    fit,
    load_checkpoint,
    read_chosen,
)

SCORES = (3.0, 7.0, 5.0, 7.0)
SELECT = ("mAP@0.5", "max", "validation")


class CountingStage(Stage):
    """Learns the number of its epoch; its scores are given."""

    def __init__(self, epochs: int, scores: Sequence[float] = SCORES, width: int = 2) -> None:
        self.epochs = epochs
        self.epoch = 0
        self._scores = scores
        self._weight = torch.zeros(width)

    def start_epoch(self) -> tuple[int, Iterator[tuple[Tensor, ...]]]:
        return 1, iter([(torch.tensor(1.0),)])

    def train_epoch(self) -> dict[str, float]:
        self.epoch += 1
        self._weight.fill_(self.epoch)
        return {"total": 1.0 / self.epoch}

    def evaluate(self, split: str, *, detail_videos: Sequence[str] = ()) -> Evaluation:
        empty = np.zeros(0)
        none = Detections((), (), empty.astype(np.intp), empty.astype(np.intp), empty, empty, empty)
        return Evaluation({"mAP@0.5": self._scores[self.epoch - 1]}, none, {})

    def export(self) -> dict[str, Tensor]:
        return {"weight": self._weight.clone()}

    def load_export(self, weights: Mapping[str, Tensor]) -> None:
        self._weight.copy_(weights["weight"])

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self.epoch, "weight": self._weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        if state["weight"].shape != self._weight.shape:
            raise ValueError(f"weight was {tuple(state['weight'].shape)}")
        self.epoch = state["epoch"]
        self._weight.copy_(state["weight"])


def test_records_hold_losses_and_scores(tmp_path: Path) -> None:
    records = list(fit(CountingStage(2), checkpoints=FileCheckpoint(tmp_path / "c.pt"), select=SELECT))
    assert [record.epoch for record in records] == [1, 2]
    assert records[1].metrics == {"loss/total": 0.5, "validation/mAP@0.5": 7.0}
    assert not any(record.replayed for record in records)


def test_the_checkpoint_is_written_before_its_epoch_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    running = fit(CountingStage(4), checkpoints=FileCheckpoint(path), select=None)
    for expected in (1, 2):
        assert next(running).epoch == expected
        assert load_checkpoint(path)["stage"]["epoch"] == expected


@pytest.mark.parametrize(
    ("direction", "epoch"),
    [("max", 2), ("min", 1)],  # of the equal epochs 2 and 4 the earlier one
)
def test_the_best_epoch_is_read_chosen(tmp_path: Path, direction: Any, epoch: int) -> None:
    path = tmp_path / "c.pt"
    list(fit(CountingStage(4), checkpoints=FileCheckpoint(path), select=("mAP@0.5", direction, "validation")))
    assert read_chosen(path).epoch == epoch
    assert read_chosen(path).weights["weight"].tolist() == [epoch, epoch]


def test_without_selection_the_last_epoch_is_chosen(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    run = fit(CountingStage(3), checkpoints=FileCheckpoint(path), select=None)
    list(run)
    assert read_chosen(path).epoch == run.chosen().epoch == 3
    assert read_chosen(path).weights["weight"].tolist() == run.chosen().weights["weight"].tolist() == [3, 3]


@pytest.mark.parametrize("resumed", [0, 1, 3, 4])
def test_a_run_chooses_what_its_file_says(tmp_path: Path, resumed: int) -> None:
    path = tmp_path / "c.pt"
    running = fit(CountingStage(4), checkpoints=FileCheckpoint(path), select=SELECT)
    for _ in range(resumed):
        next(running)
    run = fit(CountingStage(4), checkpoints=FileCheckpoint(path), select=SELECT)
    assert run.resumed_epoch == resumed
    list(run)
    assert run.chosen().epoch == read_chosen(path).epoch == 2
    assert run.chosen().weights["weight"].tolist() == read_chosen(path).weights["weight"].tolist() == [2, 2]


def test_an_epoch_is_chosen_without_any_file() -> None:
    run = fit(CountingStage(4), checkpoints=None, select=SELECT)
    list(run)
    assert run.chosen().epoch == 2


@pytest.mark.parametrize(("epochs", "saved"), [(5, [2, 4, 5]), (4, [2, 4]), (1, [1]), (0, [0])])
def test_checkpoints_are_written_after_every_so_many_epochs_and_the_last(
    epochs: int, saved: list[int]
) -> None:
    class Kept:
        def __init__(self) -> None:
            self.epochs: list[int] = []

        def load(self) -> None:
            return None

        def save(self, epoch: int, content: Mapping[str, Any]) -> None:
            self.epochs.append(epoch)

    kept = Kept()
    list(fit(CountingStage(epochs), checkpoints=kept, select=None, every=2))
    assert kept.epochs == saved


def test_no_epoch_at_all_chooses_the_start(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    assert list(fit(CountingStage(0), checkpoints=FileCheckpoint(path), select=SELECT)) == []
    assert read_chosen(path).epoch == 0
    assert read_chosen(path).weights["weight"].tolist() == [0, 0]


def test_an_interrupted_run_replays_and_continues(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    running = fit(CountingStage(4), checkpoints=FileCheckpoint(path), select=SELECT)
    next(running), next(running)
    records = list(fit(CountingStage(4), checkpoints=FileCheckpoint(path), select=SELECT))
    whole = list(fit(CountingStage(4), checkpoints=FileCheckpoint(tmp_path / "whole.pt"), select=SELECT))
    assert [record.replayed for record in records] == [True, True, False, False]
    assert [record.metrics for record in records] == [record.metrics for record in whole]
    assert read_chosen(path).epoch == read_chosen(tmp_path / "whole.pt").epoch


def test_a_finished_run_only_replays(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    list(fit(CountingStage(2), checkpoints=FileCheckpoint(path), select=None))
    before = path.read_bytes()
    assert all(
        record.replayed for record in fit(CountingStage(2), checkpoints=FileCheckpoint(path), select=None)
    )
    assert path.read_bytes() == before


def test_files_of_other_runs_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    list(fit(CountingStage(3), checkpoints=FileCheckpoint(path), select=None))
    with pytest.raises(ForeignCheckpoint, match=r"weight was \(2,\)"):
        list(fit(CountingStage(3, width=5), checkpoints=FileCheckpoint(path), select=None))
    with pytest.raises(ForeignCheckpoint, match="chose epochs by None"):
        list(fit(CountingStage(3), checkpoints=FileCheckpoint(path), select=SELECT))
    with pytest.raises(ForeignCheckpoint, match="has 3 epochs already, but 2 are wanted"):
        list(fit(CountingStage(2), checkpoints=FileCheckpoint(path), select=None))


def test_files_that_are_no_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="not a readable checkpoint"):
        list(fit(CountingStage(1), checkpoints=FileCheckpoint(path), select=None))
    for content in ({"weights": torch.zeros(1)}, {"format": "ftcl-stage-1"}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="not a checkpoint of a training run"):
            list(fit(CountingStage(1), checkpoints=FileCheckpoint(path), select=None))


@pytest.mark.situation(
    "input", "a checkpoint would run code of its own when it is read", "it is refused, and nothing in it runs"
)
def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    torch.save({"weights": Path("harmless")}, path)
    with pytest.raises(ValueError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"no checkpoint", b"\x80\x02garbage", bytes(512)])
def test_other_files_are_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a readable checkpoint") as caught:
        load_checkpoint(path)
    said = str(caught.value)
    assert "weights_only" not in said
    assert "\n" not in said
    assert ("it is empty" in said) == (content == b"")


def test_a_non_finite_loss_survives_a_process_boundary() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(NonFiniteLoss(3, "guide")))
    assert (error.epoch, error.term) == (3, "guide")
    assert "'guide' is not finite in epoch 3" in str(error)
