"""Folders of made-up studies, written by the real records code, to read back."""

import datetime
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from study.records import write_json, write_tables
from study.rows import Cell, Row

STARTED_AT = datetime.datetime(2024, 1, 1, 12)
ARMS = ("acmnet", "cont", "+FSD", "+LCS", "FSD+LCS", "shuffled order")

Values = Mapping[str, Sequence[float | str]]
WriteStudy = Callable[..., Path]


def manifest(**changes: Any) -> dict[str, Any]:
    content = {
        "schema_version": 1,
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
        },
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


@pytest.fixture
def write_study(tmp_path: Path) -> WriteStudy:
    """Return a writer of OUT: arm -> a value per seed, or a text: a status, else a failure."""

    def write(values: Values, *, context: Values | None = None, **changes: Any) -> Path:
        content = manifest(**changes)
        chosen = (content["seeds"] or manifest()["seeds"])["ablation"]
        seeds = sorted({*chosen["ungated"], *(chosen["gated"] or ())})
        rows: list[Row] = []
        for phase, arms in (("ablation", values), ("context", context or {})):
            for arm, column in arms.items():
                for seed, value in zip(seeds, column, strict=False):
                    rows.append(_row(len(rows), Cell(phase, "finetune", seed, arm), value))
        # A pretraining has a seed but no arm, and must not be taken for one.
        rows.append(_row(len(rows), Cell("ablation", "pretrain", seeds[0], pretrain_key="k"), 1.0))
        out = tmp_path / "out"
        write_json(out / "manifest.json", content)
        write_tables(out, rows)
        return out

    return write


def _row(trial: int, cell: Cell, value: float | str) -> Row:
    if isinstance(value, str):
        status = value if value in ("running", "stopped") else "failed"
        failure = value if status == "failed" else None
        return Row(trial, cell, {}, status, STARTED_AT, failure=failure)  # type: ignore[arg-type]
    metrics = {"test/score": value, "test/cost": 100 - value}
    return Row(trial, cell, {}, "complete", STARTED_AT, STARTED_AT, result={"metrics": metrics})
