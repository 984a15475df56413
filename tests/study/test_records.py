import datetime
from pathlib import Path
from typing import Any

import pytest

from study.failures import Failure
from study.records import (
    EPOCHS,
    FAILURES,
    MANIFEST,
    SCHEMA_VERSION,
    TRIALS,
    RecordsError,
    predictions_name,
    read_manifest,
    read_table,
    write_json,
    write_predictions,
    write_tables,
)
from study.rows import Cell, Row
from study.store import Store, open_store
from tests.analysis import made_up

STARTED = datetime.datetime(2026, 3, 1, 12, 0, 0, tzinfo=datetime.UTC)
ROWS = [
    Row(
        trial=0,
        cell=Cell("search", "finetune", seed=3000, proposal=0, pretrain_key="ab"),
        parameters={"finetune.lambda_fsd": 0.5, "finetune.epochs": 3, "finetune.alignment": "dp"},
        status="complete",
        started_at=STARTED,
        ended_at=STARTED + datetime.timedelta(seconds=9),
        epochs={
            1: {"loss/total": 2.0, "wall_s": 3.0, "cpu_s": 2.0, "gpu_s": 0.75},
            2: {"loss/total": 1.0, "wall_s": 3.0, "cpu_s": 2.0, "gpu_s": 0.75},
        },
        host="node-1",
        result={
            "metrics": {"validation/mAP@0.5": 12.5},
            "chosen_epoch": 2,
            "checkpoint": "checkpoints/ab12",
            "notes": ["a was damaged", "b too"],
            "last_lap": {"wall_s": 1.0, "cpu_s": 0.5, "gpu_s": 0.25},
        },
    ),
    Row(
        trial=1,
        cell=Cell("ablation", "finetune", seed=0, arm="+FSD", pretrain_key="cd"),
        parameters={},
        status="failed",
        started_at=STARTED,
        ended_at=STARTED,
        failure="out of memory",
        failure_kind="gpu_memory",
        attempts=3,
        failures=(
            Failure("node_lost", "gone", 1, 4, 2.5, "elsewhere", "node-2", "2026-03-01T12:00:05+00:00"),
            Failure("gpu_memory", "out of memory", 2, 4, 0.5, "never", None, "2026-03-01T13:00:05+01:00"),
        ),
        resumed={1: 0, 2: 3, 3: 4},
        superseded="the recipe has changed",
    ),
]


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path if request.param == "local" else f"memory://{tmp_path.name}/out")


def test_trials_table_has_a_row_for_each_trial(store: Store) -> None:
    write_tables(store, ROWS)
    first, second = read_table(store, TRIALS).to_pylist()
    assert first["phase"] == "search" and first["proposal"] == 0 and first["arm"] is None
    assert (first["epochs"], first["chosen_epoch"], first["host"]) == (2, 2, "node-1")
    assert (first["wall_s"], first["cpu_s"], first["gpu_s"]) == (7.0, 4.5, 1.75)
    assert first["param/finetune.lambda_fsd"] == 0.5
    assert first["param/finetune.alignment"] == "dp"
    assert first["validation/mAP@0.5"] == 12.5
    assert first["started_at"].utcoffset() == datetime.timedelta(0)
    assert (second["status"], second["failure"], second["validation/mAP@0.5"]) == (
        "failed",
        "out of memory",
        None,
    )


def test_trials_table_says_what_became_of_the_attempts(store: Store) -> None:
    write_tables(store, ROWS)
    first, second = read_table(store, TRIALS).to_pylist()
    names = ("attempts", "repeated_epochs", "failure_kind", "superseded", "checkpoint", "notes")
    assert [first[name] for name in names] == [1, 0, None, None, "checkpoints/ab12", "a was damaged; b too"]
    assert [second[name] for name in names] == [3, 1, "gpu_memory", "the recipe has changed", None, None]


def test_failures_table_has_a_row_for_each_failure_of_an_attempt(store: Store) -> None:
    write_tables(store, ROWS)
    first, second = read_table(store, FAILURES).to_pylist()
    assert first == {
        "trial": 1,
        "attempt": 1,
        "kind": "node_lost",
        "message": "gone",
        "epoch": 4,
        "lost_s": 2.5,
        "action": "elsewhere",
        "host": "node-2",
        "at": STARTED + datetime.timedelta(seconds=5),
    }
    assert (second["attempt"], second["host"], second["at"]) == (2, None, first["at"])


def test_epochs_table_has_a_row_for_each_epoch(store: Store) -> None:
    write_tables(store, ROWS)
    epochs = read_table(store, EPOCHS).to_pylist()
    assert [(row["trial"], row["epoch"], row["loss/total"]) for row in epochs] == [(0, 1, 2.0), (0, 2, 1.0)]


def test_tables_of_no_trials_can_be_read(store: Store) -> None:
    write_tables(store, [])
    assert read_table(store, TRIALS).num_rows == 0
    assert read_table(store, FAILURES).num_rows == 0
    assert "status" in read_table(store, TRIALS).column_names


def test_folder_that_is_no_study_is_named(store: Store) -> None:
    with pytest.raises(RecordsError, match="is not the folder of a study"):
        read_manifest(store)
    with pytest.raises(RecordsError, match="missing"):
        read_table(store, TRIALS)


def test_records_of_another_version_are_refused(store: Store) -> None:
    write_json(store, MANIFEST, {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(RecordsError, match="schema version"):
        read_manifest(store)


def test_manifest_that_is_no_json_is_named(store: Store) -> None:
    store.write(MANIFEST, b"{")
    with pytest.raises(RecordsError, match="not valid JSON"):
        read_manifest(store)


@pytest.mark.situation(
    "storage",
    "the manifest of a study is valid JSON, but not that of a study, or has lost entries",
    "`run`, `reproduce` and `python -m analysis` name the file and say to restore it",
)
@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([1], "holds no JSON object; restore it from a copy"),
        ({"schema_version": SCHEMA_VERSION}, "has no entry id; restore it from a copy"),
        ({**made_up.manifest(), "recipe": {"name": "ftcl"}}, "has no entry recipe: version"),
        ({**made_up.manifest(), "data": None}, "has no entry data: spec"),
    ],
)
def test_manifest_with_other_content_is_named(store: Store, content: Any, words: str) -> None:
    write_json(store, MANIFEST, content)
    with pytest.raises(RecordsError, match=rf"manifest\.json .*{words}"):
        read_manifest(store)


def flip_a_bit(store: Store, name: str) -> None:
    content = bytearray(store.read(name))
    content[60] ^= 1  # in the first page
    store.write(name, bytes(content))


@pytest.mark.situation(
    "storage",
    "a bit of the detections on record has flipped",
    "the checksum of its page gives it away; the file is named, to be restored from a copy",
)
def test_damaged_detections_are_to_be_restored(store: Store) -> None:
    name = predictions_name(3)
    write_predictions(store, name, {"score": [i / 7 for i in range(1000)]})
    flip_a_bit(store, name)
    with pytest.raises(
        RecordsError, match=r"3\.parquet cannot be read .*restore it from a copy of the study"
    ):
        read_table(store, name)
    store.delete(name)
    with pytest.raises(RecordsError, match=r"3\.parquet is missing; restore it from a copy of the study"):
        read_table(store, name)


def test_flipped_bit_of_a_table_is_found(store: Store) -> None:
    write_tables(store, ROWS)
    flip_a_bit(store, EPOCHS)
    with pytest.raises(RecordsError, match=r"epochs\.parquet cannot be read .*derive it from the ledger"):
        read_table(store, EPOCHS)


def test_folder_in_the_place_of_a_table_is_named(tmp_path: Path) -> None:
    (tmp_path / TRIALS).mkdir()
    with pytest.raises(RecordsError, match=r"trials\.parquet cannot be read .*is a directory"):
        read_table(open_store(tmp_path), TRIALS)


@pytest.mark.situation(
    "storage",
    "a table of the records is damaged",
    "it is named; the study's command derives it anew from the ledger",
)
def test_damaged_table_is_named(store: Store) -> None:
    store.write(TRIALS, b"PAR1 and no more")
    with pytest.raises(RecordsError, match=r"trials.parquet cannot be read .*derive it from the ledger"):
        read_table(store, TRIALS)
