"""A made-up study of every part that a table tells of: pretraining, search, confirmation, arms, a failure."""

import datetime
from dataclasses import replace
from pathlib import Path
from typing import Any

from study.failures import Failure
from study.records import open_store, write_json, write_tables
from study.rows import Cell, Row
from tests.analysis.made_up import STARTED_AT, manifest

METRICS = ("mAP@0.1", "mAP@0.2", "mAP@0.3", "mAP@0.9", "mAP@0.1:0.2", "mAP@0.1:0.3", "mAP@0.1:0.9")
HEADLINE = "mAP@0.1:0.3"
ARMS: dict[str, dict[str, Any]] = {
    "cont": {"finetune.lambda_fsd": 0.0, "finetune.lambda_lcs": 0.0},
    "acmnet": {"finetune.epochs": 0},
    "+FSD": {"finetune.lambda_lcs": 0.0},
    "both": {},
    "γ=0": {"finetune.lambda_lcs": 0.0, "finetune.gamma": 0.0},
    "γ=0.1": {"finetune.lambda_lcs": 0.0, "finetune.gamma": 0.1},
    "γ=1": {"finetune.lambda_lcs": 0.0, "finetune.gamma": 1.0},
    "shuffled": {"finetune.order": "shuffled"},
}
EFFECTS = {"cont": 0, "acmnet": -1, "+FSD": 2, "both": 5, "γ=0": 1, "γ=0.1": 2, "γ=1": 3, "shuffled": 4}
NOISE = (0.1, -0.2, 0.3, -0.1, 0.2, -0.3, 0.2, -0.2)
SEEDS = tuple(range(8))
PARAMETERS: dict[str, Any] = {
    "finetune.gamma": {"when": {}, "float": [0.01, 1.0], "log": True},
    "finetune.lcs_len": {"when": {}, "int": [10, 40], "step": 1, "log": False},
    "finetune.kind": {"when": {}, "choice": ["hard", "soft"]},
    "finetune.tau": {"when": {"finetune.kind": ["soft"]}, "float": [0.0, 1.0], "log": False},
}
# gamma, lcs_len, kind, tau, and the value on the first search seed; None: stopped after 2 epochs.
PROPOSALS: tuple[tuple[float, int, str, float | None, float | None], ...] = (
    (0.1, 20, "hard", None, 50.0),
    (0.02, 12, "soft", 0.5, 52.0),
    (0.5, 40, "soft", 0.9, None),
    (0.015, 30, "hard", None, 56.0),
)
WINNER = 3


def settings_of(proposal: int) -> dict[str, Any]:
    gamma, length, kind, tau, _ = PROPOSALS[proposal]
    own = {"finetune.gamma": gamma, "finetune.lcs_len": length, "finetune.kind": kind}
    return own if tau is None else {**own, "finetune.tau": tau}


def write_searched(out: Path, **changes: Any) -> Path:
    """Write the study; `data` names its dataset, other changes replace parts of the manifest."""
    data = {**manifest()["data"], "spec": changes.pop("data", "set")}
    rows = [replace(row, trial=number) for number, row in enumerate(_rows())]
    store = open_store(out)
    write_json(store, "manifest.json", manifest(**{**_manifest(), "data": data, **changes}))
    write_tables(store, rows)
    return out


def _rows() -> list[Row]:
    rows = [_row(Cell("search", "pretrain", seed, pretrain_key=f"s{seed}"), 40.0, 4.0) for seed in (30, 31)]
    rows += [
        _row(Cell("ablation", "pretrain", seed, pretrain_key=f"a{seed}"), 44.0 + seed, 4.0) for seed in SEEDS
    ]
    for proposal, (*_, value) in enumerate(PROPOSALS):
        for seed in (30, 31):
            cell = Cell("search", "finetune", seed, proposal=proposal, pretrain_key=f"s{seed}")
            score = None if value is None else value + 2 * (seed - 30)
            rows.append(replace(_row(cell, score, 2.0), parameters=settings_of(proposal)))
    for proposal, value in ((0, 60.0), (WINNER, 63.0)):
        cell = Cell("confirm", "finetune", 60, proposal=proposal, pretrain_key="c60")
        rows.append(replace(_row(cell, value, 2.0), parameters=settings_of(proposal)))
    for arm, overlay in ARMS.items():
        for seed, noise in zip(SEEDS, NOISE, strict=True):
            row = _row(Cell("ablation", "finetune", seed, arm, pretrain_key=f"a{seed}"), 60.0, 3.0)
            value = 40.0 + seed + EFFECTS[arm] + (0.0 if arm == "cont" else noise)
            metrics = {f"test/{name}": value - place for place, name in enumerate(METRICS)}
            result = {"metrics": {**row.result["metrics"], **metrics}, "chosen_epoch": 3}
            rows.append(replace(row, parameters=settings_of(WINNER) | overlay, result=result))
    failed = next(place for place, row in enumerate(rows) if row.cell.arm == "+FSD" and row.cell.seed == 5)
    failure = Failure("gpu_memory", "CUDA out of memory", 1, 1, 6.0, "never", "host", STARTED_AT.isoformat())
    rows[failed] = replace(
        rows[failed],
        status="failed",
        failure="CUDA out of memory_[1|2]",
        failure_kind="gpu_memory",
        failures=(failure,),
        result={},
    )
    rows.append(_row(Cell("context", "context", 0, "random windows"), None, 0.0))
    context = {f"test/{name}": 99.0 for name in METRICS}
    rows[-1] = replace(rows[-1], status="complete", result={"metrics": context})
    return rows


def _row(cell: Cell, value: float | None, epoch_s: float) -> Row:
    """Return a run of 3 epochs; without a value one that stopped after 2."""
    shown = 45.0 if value is None else value
    count = 2 if value is None else 3
    epochs = {
        epoch: {
            f"validation/{HEADLINE}": shown - 3 + epoch,
            "wall_s": epoch_s,
            "cpu_s": epoch_s,
            "gpu_s": epoch_s / 4,
        }
        for epoch in range(1, count + 1)
    }
    metrics = {} if value is None else {f"validation/{name}": value for name in METRICS}
    return Row(
        0,
        cell,
        {},
        "stopped" if value is None else "complete",
        STARTED_AT,
        STARTED_AT + datetime.timedelta(seconds=60),
        epochs=epochs,
        result={} if value is None else {"metrics": metrics},
    )


def _manifest() -> dict[str, Any]:
    families = [
        {"name": "losses", "metric": HEADLINE, "arms": ["+FSD", "both"], "against": "cont"},
        {"name": "smooth", "metric": HEADLINE, "arms": ["γ=0.1", "γ=1"], "against": "γ=0"},
    ]
    controls = {"arms": ["shuffled"], "against": ["both"]}
    search = {
        **{"trials": len(PROPOSALS), "seeds": 2, "batch": 6, "parameters": PARAMETERS},
        "early_stopping": {"rungs": [2], "keep": 0.5, "at_least": 2},
    }
    objective = {"metric": HEADLINE, "split": "validation"}
    ablation = {"arms": ARMS, "baseline": "cont", "families": families, "controls": controls}
    definition = {"fixed": {}, "objective": objective, "search": search, "ablation": ablation}
    return {
        "space": {
            **manifest()["space"],
            **{"name": "made_up", "arms": ARMS, "families": families, "controls": controls},
            **{"seeds": len(SEEDS), "definition": definition},
        },
        "metrics": dict.fromkeys(METRICS, "max"),
        "headline": HEADLINE,
        "seeds": {
            "search": {"ungated": [30, 31], "gated": None},
            "confirm": {"ungated": [60], "gated": None},
            "ablation": {"ungated": list(SEEDS), "gated": None},
        },
        "winner": settings_of(WINNER),
    }
