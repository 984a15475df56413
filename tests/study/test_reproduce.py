"""Trials of a small real study, run again from their records: the same, altered on purpose, in part gone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

import run_study
import study.reproduce
from ftcl.data import DataError, load_dataset
from study import surroundings
from study.comparison import Comparison, Difference
from study.job import Job, News, Setup
from study.ledger_location import FILE_NAME
from study.manifest import alignment
from study.plan import LaunchError
from study.pretrain import load_export, write_export
from study.records import EPOCHS, MANIFEST, TRIALS, RecordsError, open_store, predictions_name
from study.reproduce import reproduce
from tests.study.pretended import acm_folder
from tests.study.small_study import (
    change_manifest,
    change_rows,
    contents,
    drop_epochs,
    run_small_study,
)

pytestmark = pytest.mark.xdist_group("reproduce")  # all use one study, which takes seconds to run
situation = pytest.mark.situation
Alter = Callable[..., Path]
ALIGNMENT = " ".join(filter(None, (alignment()["backends"][0], alignment()["native"])))

# The trials of the study, in the order of its work.
PRETRAIN, SEARCH, FINETUNE, BLOWN_UP, CONTEXT = 4, 1, 5, 6, 7


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    run_small_study(out)
    (out / FILE_NAME).unlink()  # the records alone are to do
    trials = pq.read_table(out / TRIALS).to_pydict()
    assert [trials["stage"][i] for i in (PRETRAIN, SEARCH)] == ["pretrain", "finetune"]
    assert [trials["arm"][i] for i in (FINETUNE, BLOWN_UP)] == ["full", "blown up"]
    assert trials["phase"][PRETRAIN] == "ablation" and trials["phase"][CONTEXT] == "context"
    return out


@pytest.fixture(autouse=True)
def same_source(original: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever edits the source while the tests run is not what they test."""
    now = json.loads((original / MANIFEST).read_text())["git"]
    there = surroundings.environment
    monkeypatch.setattr(surroundings, "environment", lambda: {**there(), "git": now})


@pytest.fixture
def alter(original: Path, tmp_path: Path) -> Alter:
    """Return a function that copies the study and changes the record of a trial."""

    def copy(trial: int | None = None, **cells: Any) -> Path:
        out = tmp_path / "copy"
        shutil.copytree(original, out)
        if cells:
            change_rows(out / TRIALS, {"trial": trial}, cells)
        return out

    return copy


def again(out: Path, trial: int, data: str | None = None) -> Comparison:
    return reproduce(str(out), trial, data=data)


def set_to(name: str, value: float) -> Callable[[str], str]:
    return lambda settings: json.dumps({**json.loads(settings), name: value})


def only_difference(out: Path, trial: int) -> Difference:
    comparison = again(out, trial)
    assert not comparison.identical
    (difference,) = (difference for part in comparison.parts for difference in part.differences)
    return difference


def shown(comparison: Comparison) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(comparison.render())
    return capture.get()


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


# What was altered on purpose is found, with its size.


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


# What is gone


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


# Trials without a result


@pytest.mark.parametrize("status", ["stopped", "waiting", "running"])
def test_unfinished_trial_is_compared_as_far_as_it_went(alter: Alter, status: str) -> None:
    out = alter(FINETUNE, status=status)
    drop_epochs(out, FINETUNE, after=1)
    comparison = again(out, FINETUNE)
    assert comparison.identical
    (part,) = comparison.parts
    assert part.compared == ["1 epoch × 23 values"]
    assert part.notes == [f"{status} on record after epoch 1, so it is run and compared up to there"]


def test_superseded_trial_is_run_all_the_same(alter: Alter) -> None:
    comparison = again(alter(SEARCH, superseded="other settings are wanted now"), SEARCH)
    assert comparison.identical
    assert comparison.parts[0].notes == ["superseded: other settings are wanted now"]


@pytest.mark.parametrize("kind", ["worker_killed", "bad_data"])
def test_failure_from_outside_need_not_come_again(alter: Alter, kind: str) -> None:
    out = alter(FINETUNE, status="failed", failure_kind=kind, failure="it was so")
    drop_epochs(out, FINETUNE, after=1)
    comparison = again(out, FINETUNE)
    assert comparison.identical
    (part,) = comparison.parts
    assert part.compared == ["1 epoch × 23 values"]
    assert part.notes == [f"failed on record ({kind}: it was so), but not by its own fault"]


def test_failure_of_its_own_must_come_again(alter: Alter) -> None:
    out = alter(FINETUNE, status="failed", failure_kind="code_error", failure="ZeroDivisionError")
    found = only_difference(out, FINETUNE)
    assert found.words == "code_error after epoch 2 on record, not now: ZeroDivisionError"


def test_failure_where_none_is_on_record(alter: Alter) -> None:
    out = alter(SEARCH, settings=set_to("finetune.learning_rate", 1.0e30))
    found = only_difference(out, SEARCH)
    assert found.words.startswith("none on record, non_finite after epoch 0 now: loss term")


# Surroundings


def test_changed_surroundings_are_told(alter: Alter) -> None:
    out = alter()

    def change(manifest: dict[str, Any]) -> None:
        last = manifest["launches"][-1]
        last["versions"]["torch"] = "1.0"
        last["alignment"] = {"backends": ["torch", "reference"], "native": None}
        last["revision"] = "f00d"
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
        "cpu: another one on record, ",
        "version of the recipe: 0 on record, 1 now",
        "uncommitted changes",
        "threads: 7 then 1 on record, 1 now",
    ):
        assert words in text


def test_record_of_an_earlier_release_says_nothing_of_alignment(alter: Alter) -> None:
    out = alter()
    change_manifest(out, lambda manifest: manifest["launches"][-1].pop("alignment"))
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


# What cannot be reproduced


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


def test_exit_status_of_the_command(original: Path, alter: Alter, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_study.main(["reproduce", str(original), "--trial", str(CONTEXT)]) == run_study.DONE
    out = alter(CONTEXT, **{"test/mAP@0.5": 1.0e3})
    assert run_study.main(["reproduce", str(out), "--trial", str(CONTEXT)]) == run_study.WORK_FAILED
    assert "final test/mAP@0.5" in capsys.readouterr().out
    assert run_study.main(["reproduce", str(out), "--trial", "99"]) == run_study.WRONG_USAGE
    assert "no trial 99 on record" in capsys.readouterr().err
