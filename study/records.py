"""The records of a study: what lies in OUT, how it is written and how it is read.

    manifest.json               what was run: command, space, versions, data, hardware, seeds, winner
    ledger.journal              the truth (study.ledger); all tables below are derived from it
    trials.parquet              one row per trial
    epochs.parquet              one row per trial and epoch
    failures.parquet            one row per attempt that ended before its trial did, or failed it
    ground_truth.json           the test videos' annotations, ActivityNet form
    predictions/<trial>.parquet the test detections of an ablation trial
    details/<trial>.npz         CAS, attention and alignments of a few test videos
    pretrained/<key>-….pt       what a pretraining exported (study.pretrain)
    checkpoints/<run key>/      where a trial continues (study.checkpoints)
    crashes/<trial>-<attempt>.txt  where in the code a trial failed
    tensorboard/<trial>/        its curves

Reading needs neither Ray, Optuna, torch nor the data: the standard library and pyarrow.
"""

import dataclasses
import datetime
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from study.failures import Failure
from study.rows import Row
from study.store import StorageError, Store, open_store

__all__ = [
    "EPOCHS",
    "FAILURES",
    "GROUND_TRUTH",
    "MANIFEST",
    "SCHEMA_VERSION",
    "TRIALS",
    "RecordsError",
    "StorageError",
    "Store",
    "crash_name",
    "curves_folder",
    "details_name",
    "open_store",
    "predictions_name",
    "read_manifest",
    "read_table",
    "write_json",
    "write_predictions",
    "write_tables",
]

SCHEMA_VERSION: Final = 2
MANIFEST: Final = "manifest.json"
TRIALS: Final = "trials.parquet"
EPOCHS: Final = "epochs.parquet"
FAILURES: Final = "failures.parquet"
GROUND_TRUTH: Final = "ground_truth.json"

_DERIVE: Final = "run the study's command again to derive it from the ledger"
_RESTORE: Final = "restore it from a copy of the study: it cannot be derived from the ledger"
# Without checksums most damaged pages would be read as other numbers.
_PARQUET: Final[Mapping[str, Any]] = {"compression": "zstd", "write_page_checksum": True}

# What every manifest has from its study's first launch on.
_PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    "space": (
        *("name", "title", "recipe", "data", "arms", "baseline", "families", "controls", "seeds"),
        "definition",
    ),
    "recipe": ("name", "version"),
    "data": ("spec", "preset", "fold", "seed", "fingerprint"),
}
_ENTRIES: Final = (
    *("id", "command", "space", "recipe", "metrics", "headline", "data", "protocol", "deterministic", "seed"),
    *("gate", "seeds", "winner", "finished", "versions", "git", "hardware", "launches"),
)
_TRIAL_COLUMNS: Final = {
    "trial": pa.int64(),
    "phase": pa.string(),
    "stage": pa.string(),
    "arm": pa.string(),
    "seed": pa.int64(),
    "proposal": pa.int64(),
    "pretrain_key": pa.string(),
    "status": pa.string(),
    "superseded": pa.string(),
    "failure": pa.string(),
    "failure_kind": pa.string(),
    "attempts": pa.int64(),
    "repeated_epochs": pa.int64(),
    "host": pa.string(),
    "started_at": pa.timestamp("us", tz="UTC"),
    "ended_at": pa.timestamp("us", tz="UTC"),
    "epochs": pa.int64(),
    "chosen_epoch": pa.int64(),
    "wall_s": pa.float64(),
    "cpu_s": pa.float64(),
    "gpu_s": pa.float64(),
    "checkpoint": pa.string(),
    "export": pa.string(),
    "device": pa.string(),
    "num_threads": pa.int64(),
    "settings": pa.string(),
    "notes": pa.string(),
}
_FAILURE_COLUMNS: Final = {
    "trial": pa.int64(),
    "attempt": pa.int64(),
    "kind": pa.string(),
    "message": pa.string(),
    "epoch": pa.int64(),
    "lost_s": pa.float64(),
    "action": pa.string(),
    "host": pa.string(),
    "at": pa.timestamp("us", tz="UTC"),
}


class RecordsError(ValueError):
    """A folder does not hold the records that were asked for."""


def predictions_name(trial: int) -> str:
    """Return the name of the test detections of a trial."""
    return f"predictions/{trial}.parquet"


def details_name(trial: int) -> str:
    """Return the name of the CAS, attention and alignments of a trial."""
    return f"details/{trial}.npz"


def crash_name(trial: int, attempt: int) -> str:
    """Return the name of what an attempt left that failed in the code, or hung."""
    return f"crashes/{trial}-{attempt}.txt"


def curves_folder(trial: int) -> str:
    """Return the TensorBoard folder of a trial."""
    return f"tensorboard/{trial}"


def write_json(store: Store, name: str, content: Any) -> None:
    """Write readable JSON, whole or not at all."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    store.write(name, text.encode())


def read_manifest(store: Store) -> dict[str, Any]:
    """Return what was run.

    Raises RecordsError if the store holds no study, one of another schema version, or a damaged manifest.
    """
    place = store.place(MANIFEST)
    try:
        manifest: dict[str, Any] = json.loads(store.read(MANIFEST))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecordsError(f"{store} is not the folder of a study: it has no {MANIFEST}") from error
    except ValueError as error:
        raise RecordsError(f"{place} is not valid JSON ({error}); {_RESTORE}") from error
    if not isinstance(manifest, dict):
        raise RecordsError(f"{place} is not the manifest of a study: it holds no JSON object; {_RESTORE}")
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RecordsError(
            f"{place} has records of schema version {version}; this program reads "
            f"{SCHEMA_VERSION}: use the release that wrote it, or run the study again"
        )
    absent = next(_absent_entries(manifest), None)
    if absent is not None:
        raise RecordsError(f"{place} is damaged: it has no entry {absent}; {_RESTORE}")
    return manifest


def _absent_entries(manifest: Mapping[str, Any]) -> Iterator[str]:
    for name in _ENTRIES:
        if name not in manifest:
            yield name
    for name, parts in _PARTS.items():
        content = manifest.get(name)
        yield from (
            f"{name}: {part}" for part in parts if not isinstance(content, dict) or part not in content
        )


def write_tables(store: Store, rows: Iterable[Row]) -> None:
    """Derive `trials.parquet`, `epochs.parquet` and `failures.parquet` from the ledger's rows."""
    rows = list(rows)
    _write_table(store, TRIALS, [_trial_record(row) for row in rows], _TRIAL_COLUMNS)
    # By column: the rows of a long study's epochs, as dicts, would take more memory than its ledger.
    epochs = [(row.trial, epoch, row.epochs[epoch]) for row in rows for epoch in sorted(row.epochs)]
    arrays = {
        "trial": pa.array([trial for trial, _, _ in epochs], pa.int64()),
        "epoch": pa.array([epoch for _, epoch, _ in epochs], pa.int64()),
    }
    for name in dict.fromkeys(name for _, _, metrics in epochs for name in metrics):
        arrays[name] = pa.array([metrics.get(name) for _, _, metrics in epochs], pa.float64())
    _write_parquet(store, EPOCHS, pa.table(arrays))
    failures = [_failure_record(row.trial, failure) for row in rows for failure in row.failures]
    _write_table(store, FAILURES, failures, _FAILURE_COLUMNS)


def write_predictions(store: Store, name: str, columns: Mapping[str, Any]) -> None:
    """Write detections: parallel columns `video, label, start_s, end_s, score`."""
    _write_parquet(store, name, pa.table(dict(columns)))


def read_table(store: Store, name: str, columns: Iterable[str] | None = None) -> pa.Table:
    """Read a table of records, or those of some columns that it has.

    Raises RecordsError if it is not there or damaged.
    """
    place, remedy = store.place(name), _DERIVE if name in (TRIALS, EPOCHS, FAILURES) else _RESTORE
    try:
        with store.open(name) as file:
            content = pq.ParquetFile(file, page_checksum_verification=True)
            wanted = None if columns is None else [c for c in columns if c in content.schema_arrow.names]
            table = content.read(columns=wanted)
        table.validate(full=True)
    except FileNotFoundError as error:
        raise RecordsError(f"{place} is missing; {remedy}") from error
    except (pa.ArrowException, OSError) as error:
        # Arrow also raises OSError for damaged pages and for folders, which the system has no number for.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise RecordsError(f"{place} cannot be read ({' '.join(str(error).split())}); {remedy}") from error
    return table


def _trial_record(row: Row) -> dict[str, Any]:
    cell, result = row.cell, row.result
    return {
        **vars(cell),
        "trial": row.trial,
        "status": row.status,
        "superseded": row.superseded,
        "failure": row.failure,
        "failure_kind": row.failure_kind,
        "attempts": row.attempts,
        "repeated_epochs": row.repeated_epochs,
        "host": row.host,
        "started_at": _utc(row.started_at),
        "ended_at": _utc(row.ended_at),
        "epochs": len(row.epochs),
        "chosen_epoch": result.get("chosen_epoch"),
        **{name: row.spent(name) for name in ("wall_s", "cpu_s", "gpu_s")},
        "checkpoint": result.get("checkpoint"),
        "export": result.get("export"),
        **{name: result.get("environment", {}).get(name) for name in ("device", "num_threads")},
        "settings": json.dumps(dict(row.parameters)),
        "notes": "; ".join(result.get("notes", [])) or None,
        **{f"param/{name}": value for name, value in row.parameters.items()},
        **result.get("metrics", {}),
    }


def _failure_record(trial: int, failure: Failure) -> dict[str, Any]:
    at = datetime.datetime.fromisoformat(failure.at)
    return {"trial": trial, **dataclasses.asdict(failure), "at": _utc(at)}


def _utc(moment: datetime.datetime | None) -> datetime.datetime | None:
    return None if moment is None else moment.astimezone(datetime.UTC)


def _write_table(
    store: Store, name: str, records: list[dict[str, Any]], columns: Mapping[str, pa.DataType]
) -> None:
    others = dict.fromkeys(key for record in records for key in record if key not in columns)
    arrays = {}
    for column in (*columns, *others):
        values = [record.get(column) for record in records]
        arrays[column] = pa.array(values, type=columns[column]) if column in columns else _column(values)
    _write_parquet(store, name, pa.table(arrays))


def _write_parquet(store: Store, name: str, table: pa.Table) -> None:
    store.write_with(name, lambda file: pq.write_table(table, file, **_PARQUET))


def _column(values: list[Any]) -> pa.Array:
    """Return a column of its values' own type; mixed ones (a number here, a list there) as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds:
        return pa.array([None if value is None else float(value) for value in values], type=pa.float64())
    if len(kinds) <= 1 and kinds <= {str, bool}:
        return pa.array(values)
    return pa.array([None if value is None else json.dumps(value) for value in values], type=pa.string())
