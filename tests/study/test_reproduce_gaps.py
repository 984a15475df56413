"""Trials run again whose files are gone, or whose records end before a result."""

import pytest

import run_study
from study.records import predictions_name
from tests.study.reproduced import (
    FINETUNE,
    PRETRAIN,
    SEARCH,
    Alter,
    again,
    of_one_study,
    only_difference,
    set_to,
)
from tests.study.small_study import drop_epochs

pytestmark = of_one_study
situation = pytest.mark.situation


@situation(
    "storage",
    "a trial is reproduced, and the pretrained model that it started from is gone or damaged",
    "its pretraining is run again first from its own record, and compared as well",
)
@pytest.mark.parametrize("damaged", [True, False])
def test_lost_pretrained_model_is_made_again(alter: Alter, damaged: bool) -> None:
    out = alter()
    for path in (out / "pretrained").iterdir():
        if damaged:
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        else:
            path.unlink()
    comparison = again(out, FINETUNE)
    first, second = comparison.parts
    assert first.title.startswith(f"trial {PRETRAIN}: pretrain")
    assert second.notes and f"so trial {PRETRAIN} ran again first" in second.notes[0]
    assert comparison.identical


@situation(
    "storage",
    "a trial is reproduced whose detections on record are damaged",
    "the file is named, to be restored from a copy; the exit status is 2",
)
def test_damaged_detections_are_named(alter: Alter, capsys: pytest.CaptureFixture[str]) -> None:
    out = alter()
    path = out / predictions_name(FINETUNE)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    assert run_study.main(["reproduce", str(out), "--trial", str(FINETUNE)]) == run_study.WRONG_USAGE
    error = capsys.readouterr().err
    assert f"{path} cannot be read" in error and "restore it from a copy of the study" in error


def test_lost_detections_are_not_compared(alter: Alter) -> None:
    out = alter()
    (out / predictions_name(FINETUNE)).unlink()
    comparison = again(out, FINETUNE)
    assert comparison.identical
    assert "is gone" in comparison.parts[0].notes[0]


def notes_of_one_epoch(alter: Alter, **cells: str) -> list[str]:
    """Leave one epoch of a trial on record, and return what is noted when it is run again."""
    out = alter(FINETUNE, **cells)
    drop_epochs(out, FINETUNE, after=1)
    comparison = again(out, FINETUNE)
    assert comparison.identical
    (part,) = comparison.parts
    assert part.compared == ["1 epoch × 23 values"]
    return part.notes


@pytest.mark.parametrize("status", ["stopped", "waiting", "running"])
def test_unfinished_trial_is_compared_as_far_as_it_went(alter: Alter, status: str) -> None:
    notes = notes_of_one_epoch(alter, status=status)
    assert notes == [f"{status} on record after epoch 1, so it is run and compared up to there"]


def test_superseded_trial_is_run_all_the_same(alter: Alter) -> None:
    comparison = again(alter(SEARCH, superseded="other settings are wanted now"), SEARCH)
    assert comparison.identical
    assert comparison.parts[0].notes == ["superseded: other settings are wanted now"]


@pytest.mark.parametrize("kind", ["worker_killed", "bad_data"])
def test_failure_from_outside_need_not_come_again(alter: Alter, kind: str) -> None:
    notes = notes_of_one_epoch(alter, status="failed", failure_kind=kind, failure="it was so")
    assert notes == [f"failed on record ({kind}: it was so), but not by its own fault"]


def test_failure_of_its_own_must_come_again(alter: Alter) -> None:
    out = alter(FINETUNE, status="failed", failure_kind="code_error", failure="ZeroDivisionError")
    found = only_difference(out, FINETUNE)
    assert found.words == "code_error after epoch 2 on record, not now: ZeroDivisionError"


def test_failure_where_none_is_on_record(alter: Alter) -> None:
    out = alter(SEARCH, settings=set_to("finetune.learning_rate", 1.0e30))
    found = only_difference(out, SEARCH)
    assert found.words.startswith("none on record, non_finite after epoch 0 now: loss term")
