"""What was altered on purpose in the records of a trial is found, with its size."""

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from study.pretrain import load_export, write_export
from study.records import EPOCHS, TRIALS, open_store, predictions_name
from tests.study.reproduced import (
    FINETUNE,
    PRETRAIN,
    SEARCH,
    Alter,
    again,
    of_one_study,
    only_difference,
    set_to,
    shown,
)
from tests.study.small_study import change_rows

pytestmark = of_one_study


def test_altered_loss_of_an_epoch(alter: Alter) -> None:
    out = alter()
    where = {"trial": SEARCH, "epoch": 2}
    change_rows(out / EPOCHS, where, {"loss/total": lambda value: value * 1.001})
    found = only_difference(out, SEARCH)
    assert (found.quantity, found.count, found.first_epoch) == ("loss/total", 1, 2)
    assert found.relative == pytest.approx(0.001, rel=0.01)
    text = shown(again(out, SEARCH))
    assert "these differ, of 2 epochs × 23 values, 13 final metrics" in text
    assert "versions, machine, threads and data are those of the record" in text
    assert " ".join(text.split()).endswith(f"loss/total 1 {found.absolute:.2g} 0.001 2")


def test_altered_score_that_is_no_longer_on_record(alter: Alter) -> None:
    out = alter(FINETUNE, **{"test/mAP@0.5": None})
    found = only_difference(out, FINETUNE)
    assert (found.quantity, found.words, found.absolute) == (
        "final test/mAP@0.5",
        "now, not on record",
        None,
    )


def test_altered_chosen_epoch(alter: Alter) -> None:
    found = only_difference(alter(FINETUNE, chosen_epoch=7), FINETUNE)
    assert (found.quantity, found.count) == ("chosen epoch", 1)


def test_altered_detection(alter: Alter) -> None:
    out = alter()
    path = out / predictions_name(FINETUNE)
    table = pq.read_table(path)
    scores = table["score"].to_pylist()
    scores[3] += 0.25
    pq.write_table(table.set_column(4, "score", pa.array(scores)), path)
    found = only_difference(out, FINETUNE)
    assert (found.quantity, found.count, found.absolute) == ("score of the detections", 1, 0.25)
    pq.write_table(table.slice(2), path)
    found = only_difference(out, FINETUNE)
    assert (found.count, found.words) == (2, f"{len(table) - 2} on record, {len(table)} now")


def replace_export(out: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> str:
    """Replace the export of the ablation's pretraining by a whole one of other weights."""
    key = pq.read_table(out / TRIALS)["pretrain_key"].to_pylist()[PRETRAIN]
    (path,) = (out / "pretrained").glob(f"{key}-*")
    weights = load_export(open_store(out), f"pretrained/{path.name}")
    change(weights)
    path.unlink()
    name = write_export(open_store(out), key, 1, weights)
    change_rows(out / TRIALS, {"trial": PRETRAIN}, {"export": name})
    return name


def test_altered_weights(alter: Alter) -> None:
    out = alter()

    def change(weights: dict[str, torch.Tensor]) -> None:
        next(iter(weights.values())).view(-1)[0] += 0.5

    replace_export(out, change)
    found = only_difference(out, PRETRAIN)
    assert (found.quantity, found.count) == ("exported weights", 1)
    assert found.absolute == pytest.approx(0.5, rel=1e-6)


def test_altered_setting(alter: Alter) -> None:
    comparison = again(alter(SEARCH, settings=set_to("finetune.lambda_lcs", 0.9)), SEARCH)
    found = {difference.quantity for part in comparison.parts for difference in part.differences}
    assert {"loss/total", "loss/lcs"} <= found
