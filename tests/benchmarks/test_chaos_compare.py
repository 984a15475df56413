"""Every difference between a struck study and an undisturbed one is found, and equal ones have none."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial
from torch.utils.tensorboard import SummaryWriter

from benchmarks.chaos import compare
from benchmarks.chaos.compare import Study


def row(trial: int, stage: str = "finetune", **changes: Any) -> dict[str, Any]:
    return {
        "trial": trial,
        "phase": "ablation",
        "stage": stage,
        "seed": 3,
        "arm": f"arm {trial}",
        "proposal": None,
        "pretrain_key": "key",
        "status": "complete",
        "superseded": None,
        "failure": None,
        "failure_kind": None,
        "epochs": 2,
        "chosen_epoch": 1,
        "attempts": 1,
        "repeated_epochs": 0,
        "wall_s": float(trial),
        "validation/mAP": 12.5,
        "test/mAP": float("nan"),
        **changes,
    }


def epoch(trial: int, number: int) -> dict[str, Any]:
    return {"trial": trial, "epoch": number, "wall_s": np.random.random(), "loss/total": 0.1 * number}


def frozen(number: int, state: TrialState = TrialState.COMPLETE, **attributes: Any) -> FrozenTrial:
    distributions: dict[str, Any] = {"x": optuna.distributions.FloatDistribution(0, 10)}
    trial = create_trial(
        state=state,
        params={"x": float(number)},
        distributions=distributions,
        value=1.0 if state == TrialState.COMPLETE else None,
        user_attrs=attributes,
    )
    trial.number = number
    return trial


@pytest.fixture
def alone(tmp_path: Path) -> Study:
    return Study(
        tmp_path,
        [row(0), row(1)],
        [epoch(trial, number) for trial in (0, 1) for number in (1, 2)],
        [],
        {"trials": [frozen(0), frozen(1)], "proposals": [frozen(0)]},
    )


@pytest.fixture
def struck(alone: Study) -> Study:
    return copy.deepcopy(alone)


def found(struck: Study, alone: Study) -> list[str]:
    words = [*compare.check_cells(struck, alone), *compare.check_results(struck, alone)]
    words += [*compare.check_epochs(struck, alone), *compare.check_proposals(struck, alone)]
    return [*words, *compare.check_ended(struck), *compare.check_failed(struck)]


def test_studies_that_differ_in_times_and_order_alone_are_equal(struck: Study, alone: Study):
    struck.trials[0]["wall_s"] = 99.0
    struck.trials[0]["attempts"] = 7
    struck.trials[0]["trial"], struck.trials[1]["trial"] = 1, 0
    struck.trials.reverse()
    for record in struck.epochs:
        record["trial"] = 1 - record["trial"]
    assert found(struck, alone) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.trials.pop(), "lost"),
        (lambda s: s.trials.append(row(2) | {"arm": "arm 1"}), "2 trials for"),
        (lambda s: s.trials.append(row(2)), "not in the design"),
        (lambda s: s.trials[0].update(superseded="another winner"), "superseded"),
        (lambda s: s.trials[0].update(status="stopped"), "status is 'stopped'"),
        (lambda s: s.trials[0].update({"validation/mAP": 12.500000000000002}), "validation/mAP"),
        (lambda s: s.trials[0].update(chosen_epoch=2), "chosen_epoch"),
        (lambda s: s.epochs.pop(), "None, undisturbed"),
        (lambda s: s.epochs[0].update({"loss/total": 0.10000000000000002}), "0.10000000000000002"),
        (lambda s: s.trials[0].update(status="failed", failure="died"), "died"),
        (lambda s: s.ledger["trials"].append(frozen(2)), "the ledger holds 3"),
        (lambda s: s.ledger["trials"].__setitem__(0, frozen(0, TrialState.RUNNING)), "RUNNING"),
        (lambda s: s.ledger["proposals"].__setitem__(0, frozen(0, TrialState.WAITING)), "WAITING"),
        (lambda s: s.ledger["proposals"].append(frozen(1)), "undisturbed"),
    ],
)
def test_a_difference_is_a_violation(
    struck: Study, alone: Study, change: Callable[[Any], object], words: str
):
    change(struck)
    assert any(words in violation for violation in found(struck, alone))


@pytest.mark.parametrize(("resumed", "count"), [(3, 0), (2, 0), (1, 1)])
def test_one_epoch_may_be_repeated_by_an_attempt(tmp_path: Path, resumed: int, count: int):
    attributes = {"failure/0": {"attempt": 1, "epoch": 3}, "resumed/2": resumed}
    study = Study(
        tmp_path, [row(0, repeated_epochs=3 - resumed)], [], [], {"trials": [frozen(0, **attributes)]}
    )
    assert len(list(compare.check_repeated(study, kills=2))) == count


def test_more_repeated_epochs_than_kills_are_a_violation(tmp_path: Path):
    study = Study(tmp_path, [row(0, repeated_epochs=2)], [], [], {"trials": []})
    assert list(compare.check_repeated(study, kills=2)) == []
    assert list(compare.check_repeated(study, kills=1)) == ["2 whole epochs repeated, 1 kills"]


@pytest.mark.parametrize(
    ("steps", "words"), [([1, 2], None), ([1, 1, 2], "loss/total at [1, 1, 2]"), ([2], "loss/total at [2]")]
)
def test_curves_show_every_epoch_once(tmp_path: Path, steps: list[int], words: str | None):
    with SummaryWriter(str(tmp_path / "tensorboard" / "0")) as writer:
        for step in steps:
            writer.add_scalar("loss/total", 0.1 * step, step)
        writer.add_scalar("final/mAP", 12.5)
    study = Study(tmp_path, [row(0)], [epoch(0, 1), epoch(0, 2)], [], {})
    assert list(compare.check_curves(study)) == ([] if words is None else [f"trial 0: {words}"])


def test_a_part_of_a_file_is_found_and_a_hidden_one_is_not(tmp_path: Path):
    pq.write_table(pa.table({"x": [1]}), tmp_path / "whole.parquet")
    (tmp_path / ".half.parquet.12ab.tmp").write_bytes(b"PAR1")
    study = Study(tmp_path, [], [], [], {})
    assert list(compare.check_files(study)) == []
    (tmp_path / "half.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:-4])
    (tmp_path / "half.npz").write_bytes(b"PK")
    (tmp_path / "visible.tmp").touch()
    assert len(list(compare.check_files(study))) == 3
