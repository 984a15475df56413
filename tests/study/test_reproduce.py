"""Trials of a small real study, run again from their records: the same, wherever it is read and run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import run_study
import study.reproduce
from study.job import Job, News, Setup
from study.records import TRIALS, open_store, predictions_name
from study.reproduce import reproduce
from tests.study.reproduced import (
    ALIGNMENT,
    BLOWN_UP,
    CONTEXT,
    FINETUNE,
    PRETRAIN,
    SEARCH,
    Alter,
    again,
    of_one_study,
    shown,
)
from tests.study.small_study import change_manifest, change_rows, contents

pytestmark = of_one_study


@pytest.mark.parametrize(
    ("trial", "compared"),
    [
        (PRETRAIN, ["2 epochs × 7 values", "13 final metrics", "exported weights"]),
        (SEARCH, ["2 epochs × 23 values", "13 final metrics"]),
        (BLOWN_UP, ["its failure (non_finite after epoch 0)"]),
        (CONTEXT, ["13 final metrics"]),
    ],
    ids=["pretraining", "search", "failed", "context"],
)
def test_trial_comes_out_the_same(original: Path, trial: int, compared: list[str]) -> None:
    comparison = again(original, trial)
    assert comparison.identical and comparison.surroundings == ()
    (part,) = comparison.parts
    assert (part.compared, part.notes) == (compared, [])


def test_detections_are_compared_and_nothing_is_written(original: Path) -> None:
    before = contents(original)
    comparison = again(original, FINETUNE)
    count = len(pq.read_table(original / predictions_name(FINETUNE)))
    (part,) = comparison.parts
    assert part.compared == ["2 epochs × 23 values", "26 final metrics", f"{count} detections"]
    assert f"identical to the bit: {', '.join(part.compared)}" in shown(comparison)
    assert contents(original) == before


def test_study_on_an_object_store_is_read_there(original: Path) -> None:
    store = open_store("memory://reproduced/study")
    for path in original.rglob("*"):
        if path.is_file():
            store.write(str(path.relative_to(original)), path.read_bytes())
    assert reproduce("memory://reproduced/study", FINETUNE, data=None).identical


def test_exit_status_of_the_command(original: Path, alter: Alter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_study.main(["reproduce", str(original), "--trial", str(CONTEXT)]) == run_study.DONE
    out = alter(CONTEXT, **{"test/mAP@0.5": 1.0e3})
    assert run_study.main(["reproduce", str(out), "--trial", str(CONTEXT)]) == run_study.WORK_FAILED
    assert "final test/mAP@0.5" in capsys.readouterr().out
    assert run_study.main(["reproduce", str(out), "--trial", "99"]) == run_study.WRONG_USAGE
    assert "no trial 99 on record" in capsys.readouterr().err


def test_changed_surroundings_are_told(alter: Alter) -> None:
    out = alter()

    def change(manifest: dict[str, Any]) -> None:
        last = manifest["launches"][-1]
        last["versions"]["torch"] = "1.0"
        last["alignment"] = {"backends": ["torch", "reference"], "native": None}
        last["revision"], last["source"] = "f00d", "beef"
        manifest["hardware"]["cpu"] = "another one"
        manifest["git"] = {"revision": "f00d", "diff": "- a"}
        manifest["recipe"]["version"] = 0
        manifest["launches"].insert(0, {**last, "num_threads": 7, "at": "2024-01-01T00:00:00+00:00"})

    change_manifest(out, change)
    change_rows(out / TRIALS, {"trial": CONTEXT}, {"started_at": lambda at: at.replace(year=2024, month=2)})
    comparison = again(out, CONTEXT)
    text = shown(comparison)
    assert comparison.identical
    for words in (
        "torch: 1.0 on record, ",
        f"alignment on the CPU: torch on record, {ALIGNMENT} now",
        "git revision: f00d on record, ",
        "digest of the source (ftcl and study): beef on record, ",
        "cpu: another one on record, ",
        "version of the recipe: 0 on record, 1 now",
        "uncommitted changes",
        "threads: 7 then 1 on record, 1 now",
    ):
        assert words in text


@pytest.mark.parametrize("name", ["alignment", "source"])
def test_record_of_an_earlier_release_says_nothing_of_what_it_lacks(alter: Alter, name: str) -> None:
    out = alter()
    change_manifest(out, lambda manifest: manifest["launches"][-1].pop(name))
    assert again(out, CONTEXT).surroundings == ()


@pytest.mark.parametrize(("own", "used"), [(None, 3), (2, 2)])
def test_number_of_threads_is_that_on_record(
    alter: Alter, monkeypatch: pytest.MonkeyPatch, own: int | None, used: int
) -> None:
    out = alter(FINETUNE, num_threads=own)
    change_manifest(out, lambda manifest: manifest["launches"][-1].update(num_threads=3))
    setups: list[Setup] = []

    def noted(job: Job, setup: Setup, report: Callable[[News], None]) -> None:
        setups.append(setup)
        report(News(job.trial, 1, "here", failure="not run", kind="code_error"))

    monkeypatch.setattr(study.reproduce, "run_trial", noted)
    again(out, FINETUNE)
    assert [setup.num_threads for setup in setups] == [used]
