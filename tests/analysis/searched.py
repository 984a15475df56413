"""Made-up searches: runs of proposals with curves, as rows of a study's records."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

from study.rows import Cell, Row, Status
from tests.analysis.made_up import STARTED_AT, manifest

OBJECTIVE = "validation/score"
PARAMETERS: dict[str, Any] = {
    "finetune.b": {"when": {}, "float": [0.01, 1.0], "log": True},
    "finetune.a": {"when": {}, "float": [0.0, 1.0], "log": False},
    "finetune.k": {"when": {}, "int": [1, 9], "step": 1, "log": False},
}
RULE = {"rungs": [2], "keep": 0.5, "at_least": 2}


def definition(**changes: Any) -> dict[str, Any]:
    """Return a space's definition with a search, changed in some of the search's entries."""
    search = {
        "trials": 24,
        "seeds": 2,
        "batch": 6,
        "early_stopping": RULE,
        "parameters": PARAMETERS,
        **changes,
    }
    return {"fixed": {}, "objective": {"metric": "score", "split": "validation"}, "search": search}


def run(
    proposal: int,
    seed: int,
    curve: Sequence[float],
    settings: Mapping[str, Any],
    *,
    status: Status = "complete",
    start_s: float = 0.0,
    epoch_s: float = 10.0,
) -> Row:
    """Return a run that showed these values of the objective, one epoch after the other."""
    started_at = STARTED_AT + datetime.timedelta(seconds=start_s)
    ended = status in ("complete", "stopped", "failed")
    return Row(
        trial=0,
        cell=Cell("search", "finetune", seed, proposal=proposal, pretrain_key="k"),
        parameters=dict(settings),
        status=status,
        started_at=started_at,
        ended_at=started_at + datetime.timedelta(seconds=epoch_s * len(curve)) if ended else None,
        epochs={epoch: {OBJECTIVE: value, "wall_s": epoch_s} for epoch, value in enumerate(curve, 1)},
        result={"metrics": {OBJECTIVE: max(curve)}} if status == "complete" else {},
        failure="it broke" if status == "failed" else None,
        failure_kind="code_error" if status == "failed" else None,
    )


def settings(a: float = 0.5, b: float = 0.1, k: int = 3) -> dict[str, Any]:
    return {"finetune.a": a, "finetune.b": b, "finetune.k": k}


def manifest_of(**changes: Any) -> dict[str, Any]:
    """Return a manifest's part on the space, with a search changed in some entries."""
    space: dict[str, Any] = manifest()["space"]
    return space | {"definition": definition(**changes)}
