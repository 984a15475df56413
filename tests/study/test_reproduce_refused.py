"""What cannot be run again, and what the message says."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import study.reproduce
from ftcl.data import DataError, load_dataset
from study.job import Job, News, Setup
from study.plan import LaunchError
from study.records import TRIALS, RecordsError
from tests.study.pretended import acm_folder
from tests.study.reproduced import CONTEXT, FINETUNE, SEARCH, Alter, again, of_one_study, set_to
from tests.study.small_study import change_manifest, drop_epochs

pytestmark = of_one_study
situation = pytest.mark.situation


@situation("input", "reproduce is given a number that no trial has", "the numbers that there are are named")
def test_unknown_trial(original: Path) -> None:
    with pytest.raises(RecordsError, match=r"no trial 99 on record \(there are 0 to 8\)"):
        again(original, 99)


@situation(
    "input", "reproduce is given a folder that holds no study", "one line says so, and nothing is written"
)
def test_no_study(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="no manifest"):
        again(tmp_path, 0)
    with pytest.raises(RecordsError, match="is not the folder of a study"):
        again(tmp_path / "nowhere", 0)
    assert list(tmp_path.iterdir()) == []


@situation(
    "environment",
    "a study was written by another release, whose records have another form",
    "the message names both versions of the form; the records are left as they are",
)
def test_records_of_another_schema(alter: Alter) -> None:
    out = alter()
    change_manifest(out, lambda manifest: manifest.update(schema_version=1))
    with pytest.raises(RecordsError, match="schema version 1"):
        again(out, SEARCH)


def test_setting_that_the_recipe_has_no_more(alter: Alter) -> None:
    out = alter(SEARCH, settings=set_to("finetune.lambda_old", 1.0))
    table = pq.read_table(out / TRIALS)
    names = [
        "param/finetune.lambda_old" if n == "param/finetune.lambda_lcs" else n for n in table.column_names
    ]
    pq.write_table(table.rename_columns(names), out / TRIALS)
    with pytest.raises(RecordsError, match=r"no parameter 'finetune\.lambda_old'"):
        again(out, SEARCH)


@situation(
    "input",
    "a trial is reproduced on data that have changed since, be it only their number format",
    "it is not run: the message names both fingerprints",
)
def test_other_data(alter: Alter) -> None:
    out = alter()
    change_manifest(out, lambda manifest: manifest["data"].update(fingerprint="abc"))
    with pytest.raises(DataError, match=r"have changed: their fingerprint is .* expected abc"):
        again(out, SEARCH)


@situation(
    "input",
    "a trial is reproduced where its data are not",
    "the message names the folder that is missing; --data says where they are here",
)
def test_data_that_are_elsewhere(alter: Alter, tmp_path: Path) -> None:
    out = alter()
    gone = f"acm:{tmp_path / 'gone'}"
    change_manifest(out, lambda manifest: manifest["data"].update(spec=gone))
    with pytest.raises(DataError, match="gone"):
        again(out, CONTEXT)
    assert again(out, CONTEXT, data="synthetic").identical


@situation(
    "input",
    "a trial is reproduced with --data that name other data than the study's",
    "it is not run: the message names both data and both fingerprints",
)
def test_data_of_another_study(original: Path, tmp_path: Path) -> None:
    folder = acm_folder(tmp_path / "data")
    with pytest.raises(
        DataError, match=rf"acm:{folder} is other data than .* on record is synthetic with \w+; say where"
    ):
        again(original, SEARCH, data=f"acm:{folder}")


def test_data_of_another_preset(original: Path) -> None:
    folder = next(iter(load_dataset("synthetic").feature_files.values()))[0].parents[1]
    with pytest.raises(DataError, match=r"the defaults of synthetic, .* those of acm"):
        again(original, SEARCH, data=f"acm:{folder}")


def test_trial_that_never_ran(alter: Alter) -> None:
    failure = "its pretraining, trial 3, failed: it was told to"
    out = alter(FINETUNE, status="failed", failure_kind="pretrain_failed", failure=failure)
    with pytest.raises(RecordsError, match="never ran: its pretraining, trial 3"):
        again(out, FINETUNE)


def test_trial_without_an_epoch(alter: Alter) -> None:
    out = alter(FINETUNE, status="waiting")
    drop_epochs(out, FINETUNE, after=0)
    with pytest.raises(RecordsError, match=r"\(waiting\) has no epoch on record"):
        again(out, FINETUNE)


def test_machine_that_is_too_small_tells_nothing(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(job: Job, setup: Setup, report: Callable[[News], None]) -> None:
        report(News(job.trial, 1, "here", failure="No space left on device", kind="disk_full"))

    monkeypatch.setattr(study.reproduce, "run_trial", fail)
    with pytest.raises(LaunchError, match="cannot be run again here: No space left"):
        again(original, SEARCH)
