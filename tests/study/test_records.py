import datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from study.records import (
    EPOCHS,
    MANIFEST,
    SCHEMA_VERSION,
    TRIALS,
    RecordsError,
    read_manifest,
    read_table,
    write_json,
    write_tables,
)
from study.rows import Cell, Row

STARTED = datetime.datetime(2026, 3, 1, 12, 0, 0)
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
    ),
]


def test_trials_table_has_a_row_for_each_trial(tmp_path: Path) -> None:
    write_tables(tmp_path, ROWS)
    first, second = pq.read_table(tmp_path / TRIALS).to_pylist()
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


def test_epochs_table_has_a_row_for_each_epoch(tmp_path: Path) -> None:
    write_tables(tmp_path, ROWS)
    epochs = pq.read_table(tmp_path / EPOCHS).to_pylist()
    assert [(row["trial"], row["epoch"], row["loss/total"]) for row in epochs] == [(0, 1, 2.0), (0, 2, 1.0)]


def test_tables_of_no_trials_can_be_read(tmp_path: Path) -> None:
    write_tables(tmp_path, [])
    assert read_table(tmp_path / TRIALS).num_rows == 0
    assert "status" in read_table(tmp_path / TRIALS).column_names


def test_folder_that_is_no_study_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="is not the folder of a study"):
        read_manifest(tmp_path)
    with pytest.raises(RecordsError, match="missing"):
        read_table(tmp_path / TRIALS)


def test_records_of_another_version_are_refused(tmp_path: Path) -> None:
    write_json(tmp_path / MANIFEST, {"schema_version": SCHEMA_VERSION + 1})
    with pytest.raises(RecordsError, match="schema version"):
        read_manifest(tmp_path)


def test_manifest_that_is_no_json_is_named(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text("{")
    with pytest.raises(RecordsError, match="not valid JSON"):
        read_manifest(tmp_path)
