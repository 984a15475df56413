"""The records of a study: what lies in OUT, how it is written and how it is read.

    manifest.json               what was run: command, space, versions, data, hardware, seeds, winner
    ledger.journal              the truth (study.ledger); all tables below are derived from it
    trials.parquet              one row per trial
    epochs.parquet              one row per trial and epoch
    ground_truth.json           the test videos' annotations, ActivityNet form
    predictions/<trial>.parquet the test detections of an ablation trial
    details/<trial>.npz         CAS, attention and similarity tables of a few test videos
    pretrained/<key>.pt         what a pretraining exported
    checkpoints/<trial>.pt      where a trial continues
    tensorboard/<trial>/        its curves

Reading needs neither Ray, Optuna, torch nor the data: the standard library and pyarrow.
"""

import datetime
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from ftcl.files import atomic_write
from study.rows import Row

SCHEMA_VERSION: Final = 1
MANIFEST: Final = "manifest.json"
TRIALS: Final = "trials.parquet"
EPOCHS: Final = "epochs.parquet"
GROUND_TRUTH: Final = "ground_truth.json"

_TRIAL_COLUMNS: Final = {
    "trial": pa.int64(),
    "phase": pa.string(),
    "stage": pa.string(),
    "arm": pa.string(),
    "seed": pa.int64(),
    "proposal": pa.int64(),
    "pretrain_key": pa.string(),
    "status": pa.string(),
    "failure": pa.string(),
    "host": pa.string(),
    "started_at": pa.timestamp("us", tz="UTC"),
    "ended_at": pa.timestamp("us", tz="UTC"),
    "epochs": pa.int64(),
    "chosen_epoch": pa.int64(),
    "wall_s": pa.float64(),
    "cpu_s": pa.float64(),
    "gpu_s": pa.float64(),
}


class RecordsError(ValueError):
    """A folder does not hold the records that were asked for."""


def predictions_path(out: Path, trial: int) -> Path:
    """Return where the test detections of a trial lie."""
    return out / "predictions" / f"{trial}.parquet"


def details_path(out: Path, trial: int) -> Path:
    """Return where CAS, attention and similarity tables of a trial lie."""
    return out / "details" / f"{trial}.npz"


def checkpoint_path(out: Path, trial: int) -> Path:
    """Return where a trial continues after an interruption."""
    return out / "checkpoints" / f"{trial}.pt"


def curves_path(out: Path, trial: int) -> Path:
    """Return the TensorBoard folder of a trial."""
    return out / "tensorboard" / str(trial)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    atomic_write(path, lambda file: file.write(text.encode()))


def read_manifest(out: Path) -> dict[str, Any]:
    """Return what was run.

    Raises RecordsError if the folder is no study, or one of another schema version.
    """
    path = out / MANIFEST
    if not path.is_file():
        raise RecordsError(f"{out} is not the folder of a study: it has no {MANIFEST}")
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise RecordsError(f"{path} is not valid JSON ({error}); restore it or use another folder") from error
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RecordsError(
            f"{path} has records of schema version {version}; this program reads {SCHEMA_VERSION}: "
            "use the release that wrote it, or run the study again"
        )
    return manifest


def write_tables(out: Path, rows: Iterable[Row]) -> None:
    """Derive `trials.parquet` and `epochs.parquet` from the ledger's rows."""
    rows = list(rows)
    _write_table(out / TRIALS, [_trial_record(row) for row in rows], _TRIAL_COLUMNS)
    epochs = [
        {"trial": row.trial, "epoch": epoch, **row.epochs[epoch]}
        for row in rows
        for epoch in sorted(row.epochs)
    ]
    _write_table(out / EPOCHS, epochs, {"trial": pa.int64(), "epoch": pa.int64()})


def write_predictions(path: Path, columns: Mapping[str, Any]) -> None:
    """Write detections: parallel columns `video, label, start_s, end_s, score`."""
    table = pa.table(dict(columns))
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))


def read_table(path: Path) -> pa.Table:
    """Read a table of records.

    Raises RecordsError if it is not there.
    """
    if not path.is_file():
        raise RecordsError(f"{path} is missing; run the study's command again to derive it from the ledger")
    return pq.read_table(path)


def _trial_record(row: Row) -> dict[str, Any]:
    cell, result = row.cell, row.result
    return {
        **vars(cell),
        "trial": row.trial,
        "status": row.status,
        "failure": row.failure,
        "host": row.host,
        "started_at": _utc(row.started_at),
        "ended_at": _utc(row.ended_at),
        "epochs": len(row.epochs),
        "chosen_epoch": result.get("chosen_epoch"),
        **{name: row.spent(name) for name in ("wall_s", "cpu_s", "gpu_s")},
        **{f"param/{name}": value for name, value in row.parameters.items()},
        **result.get("metrics", {}),
    }


def _utc(moment: datetime.datetime | None) -> datetime.datetime | None:
    # The ledger's clock is local and naive.
    return None if moment is None else moment.astimezone(datetime.UTC)


def _write_table(path: Path, records: list[dict[str, Any]], columns: Mapping[str, pa.DataType]) -> None:
    others = dict.fromkeys(name for record in records for name in record if name not in columns)
    arrays = {}
    for name in (*columns, *others):
        values = [record.get(name) for record in records]
        if name in columns:
            arrays[name] = pa.array(values, type=columns[name])
        else:
            arrays[name] = _column(values)
    table = pa.table(arrays)
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _column(values: list[Any]) -> pa.Array:
    """Return a column of its values' own type; mixed ones (a number here, a list there) as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in values], type=pa.float64())
    if len(kinds) <= 1 and kinds <= {str, bool}:
        return pa.array(values)
    return pa.array([None if value is None else json.dumps(value) for value in values], type=pa.string())
