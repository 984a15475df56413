"""Made-up studies, written by the real records code, to read back."""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.records import SCHEMA_VERSION, open_store, write_json, write_tables
from study.rows import Cell, Row

STARTED_AT = datetime.datetime(2024, 1, 1, 12)
ARMS = ("acmnet", "cont", "+FSD", "+LCS", "FSD+LCS", "shuffled order")

CONT = [40.0, 50.0, 44.0, 46.0, 42.0, 48.0, 41.0, 49.0]

Value = float | str | tuple[str, str]
Values = Mapping[str, Sequence[Value]]


def manifest(**changes: Any) -> dict[str, Any]:
    content = {
        "schema_version": SCHEMA_VERSION,
        "id": "fsd_lcs-12ab34cd",
        "command": ["run_study.py", "--space", "fsd_lcs"],
        "space": {
            "name": "fsd_lcs",
            "title": "Do the losses help?",
            "recipe": "ftcl",
            "data": "watch",
            "arms": {arm: {} for arm in ARMS},
            "baseline": "cont",
            "families": [
                {"name": "losses", "metric": "score", "arms": ["+FSD", "+LCS", "FSD+LCS"], "against": "cont"}
            ],
            "controls": {"arms": ["shuffled order"], "against": ["FSD+LCS"]},
            "seeds": 8,
            "definition": {},
        },
        "recipe": {"name": "ftcl", "version": 1},
        "deterministic": False,
        "seed": 0,
        "finished": True,
        "hardware": {},
        "launches": [],
        "metrics": {"score": "max", "cost": "min"},
        "headline": "score",
        "data": {"spec": "watch", "preset": "watch", "fold": 0, "seed": 3, "fingerprint": "abc123"},
        "protocol": "default",
        "gate": None,
        "seeds": {
            "search": [1, 2],
            "confirm": [3],
            "ablation": {"ungated": list(range(100, 108)), "gated": None},
        },
        "winner": {"finetune.lambda_fsd": 0.8123456},
        "versions": {"torch": "2.9.0", "ray": None},
        "git": {"revision": "f00d", "diff": "- a"},
    }
    return content | changes


def gaining(*gains: float) -> list[float]:
    """Return values of an arm that gains so much over CONT, seed by seed."""
    return [value + gain for value, gain in zip(CONT, gains, strict=True)]


def write_study(
    out: str | Path,
    values: Values,
    *,
    context: Values | None = None,
    superseded: Values | None = None,
    others: Sequence[Row] = (),
    **changes: Any,
) -> None:
    """Write the records of a study: arm -> for each seed a value, a status, a failure, or its kind and it.

    `superseded` are values of trials that no longer count, `others` further rows, as of a search (they get
    the next numbers); `changes` replace parts of the manifest.
    """
    content = manifest(**changes)
    chosen = (content["seeds"] or manifest()["seeds"])["ablation"]
    seeds = sorted({*chosen["ungated"], *(chosen["gated"] or ())})
    rows: list[Row] = []
    parts = (("ablation", values, None), ("context", context, None), ("ablation", superseded, "rerun"))
    for phase, arms, reason in parts:
        for arm, column in (arms or {}).items():
            for seed, value in zip(seeds, column, strict=False):
                row = _row(len(rows), Cell(phase, "finetune", seed, arm), value, content["headline"])
                rows.append(replace(row, superseded=reason))
    # A pretraining has a seed but no arm, and must not be taken for one.
    rows.append(_row(len(rows), Cell("ablation", "pretrain", seeds[0], pretrain_key="k"), 1.0))
    rows += [replace(row, trial=len(rows) + index) for index, row in enumerate(others)]
    store = open_store(out)
    write_json(store, "manifest.json", content)
    write_tables(store, rows)


def early_epoch() -> Row:
    """Return a run of a search that kept the second of its three epochs."""
    epochs = {epoch: {"wall_s": 1.0} for epoch in (1, 2, 3)}
    result = {"metrics": {"validation/score": 1.0}, "chosen_epoch": 2}
    cell = Cell("search", "finetune", 1, proposal=0)
    return Row(0, cell, {}, "complete", STARTED_AT, STARTED_AT, epochs=epochs, result=result)


def _row(trial: int, cell: Cell, value: Value, metric: str = "score") -> Row:
    if isinstance(value, tuple):
        kind, failure = value
        return Row(trial, cell, {}, "failed", STARTED_AT, failure=failure, failure_kind=kind)  # type: ignore[arg-type]
    if isinstance(value, str):
        status = value if value in ("running", "waiting", "stopped") else "failed"
        failure = value if status == "failed" else None
        return Row(trial, cell, {}, status, STARTED_AT, failure=failure)  # type: ignore[arg-type]
    metrics = {f"test/{metric}": value, "test/cost": 100 - value}
    return Row(trial, cell, {}, "complete", STARTED_AT, STARTED_AT, result={"metrics": metrics})
