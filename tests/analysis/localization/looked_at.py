"""A made-up study whose trials can be looked at: detections, details and annotations of three videos."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from study.records import details_name, open_store, predictions_name, write_predictions
from tests.analysis import made_up

ARMS = ("cont", "FSD+LCS")
HEADLINE = "mAP@0.1:0.7"
CLASSES = ["ER", "IR", "TRAP"]
PAIR = ("v1", "v0")  # the order in which they are on record is kept
VIDEOS = (*PAIR, "v2")
DATA = {
    **{"spec": "watch", "preset": "watch", "fold": 0, "seed": 3, "fingerprint": "abc123"},
    **{"classes": CLASSES, "snippet_s": 0.5},
}
# Of the predictions below, in percent: all segments are found up to tIoU 0.3, half of them above.
MEAN_AP = (3 * 100 + 4 * 50) / 7
NUM_SNIPPETS = 20  # of 0.5 s each


def write(out: Path, *, older: bool = False, seeds: int = 3, **changes: Any) -> Path:
    """Write the records; `older` ones have neither names of classes nor alignments."""
    space = made_up.manifest()["space"]
    space |= {
        "arms": {"cont": {"finetune.lambda_fsd": 0.0, "finetune.lambda_lcs": 0.0}, "FSD+LCS": {}},
        "baseline": "cont",
        "families": [{"name": "losses", "metric": HEADLINE, "arms": ["FSD+LCS"], "against": "cont"}],
        "controls": None,
        "seeds": seeds,
    }
    data = {name: value for name, value in DATA.items() if not older or name not in ("classes", "snippet_s")}
    made_up.write_study(
        out,
        {arm: [MEAN_AP] * seeds for arm in ARMS},
        **{
            "space": space,
            "data": data,
            "metrics": {HEADLINE: "max"},
            "headline": HEADLINE,
            "seeds": {
                "search": [],
                "confirm": [],
                "ablation": {"ungated": list(range(seeds)), "gated": None},
            },
            **changes,
        },
    )
    store = open_store(out)
    database = {
        video: {
            "subset": "test",
            "duration": 10.0,
            "annotations": [{"segment": [2.0, 5.0], "label": label}, {"segment": [6.0, 9.0], "label": label}],
        }
        for video, label in zip(VIDEOS, ("ER", "ER", "IR"), strict=True)
    }
    store.write("ground_truth.json", json.dumps({"database": database}).encode())
    for trial in trials(out).values():
        rng = np.random.default_rng(trial)
        write_predictions(store, predictions_name(trial), _predictions(rng))
        arrays = _details(rng, older)
        store.write_with(details_name(trial), lambda file, arrays=arrays: np.savez(file, **arrays))
    return out


def trials(out: Path) -> dict[tuple[str, int], int]:
    """The number of the trial of each arm and seed."""
    rows = pq.read_table(out / "trials.parquet", columns=["arm", "seed", "trial"]).to_pylist()
    return {(row["arm"], row["seed"]): row["trial"] for row in rows if row["arm"] is not None}


def _predictions(rng: np.random.Generator) -> dict[str, Any]:
    """A right detection, one of another class and a short one in every video."""
    rows = [
        row
        for video, label in zip(VIDEOS, ("ER", "ER", "IR"), strict=True)
        for row in (
            (video, label, 2.0, 5.0, 0.9),
            (video, "TRAP", 6.0, 9.0, 0.5 + 0.1 * rng.random()),
            (video, label, 6.0, 7.0, -0.1),
        )
    ]
    return dict(zip(("video", "label", "start_s", "end_s", "score"), zip(*rows, strict=True), strict=True))


def _details(rng: np.random.Generator, older: bool) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for video in VIDEOS:
        arrays[f"{video}/cas"] = rng.dirichlet(np.ones(len(CLASSES) + 1), NUM_SNIPPETS)
        arrays[f"{video}/attention"] = rng.dirichlet(np.ones(3), NUM_SNIPPETS)
        if not older:
            arrays[f"{video}/covered_s"] = np.array(0.5 * NUM_SNIPPETS)
    pair = "|".join(PAIR)
    for kind, table, length in (("fsd", "match", 3), ("lcs", "similarity", 6)):
        for member in ("first", "second"):
            arrays[f"{pair}/{kind}_snippets_{member}"] = np.arange(length) * 2
        arrays[f"{pair}/{kind}_{table}"] = rng.uniform(0.2, 1, (length, length))
        if kind == "fsd":
            arrays[f"{pair}/fsd_gap"] = np.full((length, length), 0.1)
        if not older:
            arrays[f"{pair}/{kind}_path"] = np.eye(length)
            arrays[f"{pair}/{kind}_expected"] = 0.8 * np.eye(length)
            arrays[f"{pair}/{kind}_value"] = np.array(2.5)
    return arrays
