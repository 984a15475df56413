"""A generated study of any size: the columns of real records, filled by the million."""

import datetime
import json
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from study.records import EPOCHS, SCHEMA_VERSION, TRIALS, open_store, write_json, write_tables
from study.rows import Cell, Row

ARMS: Final = {
    "cont": {"finetune.lambda_fsd": 0.0, "finetune.lambda_lcs": 0.0},
    "+FSD": {"finetune.lambda_lcs": 0.0},
    "+LCS": {"finetune.lambda_fsd": 0.0},
    "FSD+LCS": {},
    "γ=0.01": {"finetune.fsd_gamma": 0.01},
    "γ=0.1": {"finetune.fsd_gamma": 0.1},
    "γ=1": {"finetune.fsd_gamma": 1.0},
    "shuffled order": {"finetune.candidate_order": "shuffled"},
}
METRICS: Final = (*(f"mAP@0.{tenth}" for tenth in range(1, 8)), "mAP@0.1:0.5", "mAP@0.3:0.7", "mAP@0.1:0.7")
HEADLINE: Final = "mAP@0.1:0.7"
PARAMETERS: Final = {
    "finetune.lambda_fsd": {"when": {}, "float": [0.05, 2.0], "log": True},
    "finetune.lambda_lcs": {"when": {}, "float": [0.02, 1.0], "log": True},
    "finetune.fsd_gamma": {"when": {}, "float": [0.01, 1.0], "log": True},
    "finetune.lcs_tau": {"when": {}, "float": [0.6, 0.98], "log": False},
    "finetune.fsd_len": {"when": {}, "int": [3, 12], "step": 1, "log": False},
    "finetune.lcs_len": {"when": {}, "int": [10, 40], "step": 1, "log": False},
}
LOSSES: Final = tuple(f"loss/{name}" for name in ("acm", "fsd", "lcs", "total"))
RUNGS: Final = (5, 10)
SEARCH_SEEDS: Final = (3000, 3001)
CONFIRM_SEEDS: Final = (6000, 6001, 6002)
ABLATION_SEEDS: Final = tuple(range(8))


def write_study(out: Path, num_trials: int, num_epochs: int) -> None:
    """Write the records of a finished study with about so many trials, most of them of its search."""
    generator = np.random.default_rng(0)
    trials = _trials(generator, num_trials, num_epochs)
    store = open_store(out)
    # A row written by the study's own code shows names and types of all columns.
    write_tables(store, [_example()])
    _fill(out / TRIALS, trials)
    _fill(out / EPOCHS, _epochs(generator, trials))
    best = trials[trials["phase"] == "confirm"].iloc[0]
    write_json(store, "manifest.json", _manifest(json.loads(best["settings"])))


def _trials(generator: np.random.Generator, num_trials: int, num_epochs: int) -> pd.DataFrame:
    others = [
        *({"phase": "search", "stage": "pretrain", "seed": seed} for seed in SEARCH_SEEDS),
        *({"phase": "confirm", "stage": "pretrain", "seed": seed} for seed in CONFIRM_SEEDS),
        *({"phase": "ablation", "stage": "pretrain", "seed": seed} for seed in ABLATION_SEEDS),
        *(
            {"phase": "ablation", "stage": "finetune", "seed": seed, "arm": arm}
            for seed in ABLATION_SEEDS
            for arm in ARMS
        ),
        *(
            {"phase": "confirm", "stage": "finetune", "seed": seed, "proposal": proposal}
            for proposal in range(3)
            for seed in CONFIRM_SEEDS
        ),
    ]
    num_proposals = max(3, (num_trials - len(others)) // len(SEARCH_SEEDS))
    search = pd.DataFrame(
        {
            "phase": "search",
            "stage": "finetune",
            "seed": np.tile(SEARCH_SEEDS, num_proposals),
            "proposal": np.repeat(np.arange(num_proposals), len(SEARCH_SEEDS)),
        }
    )
    trials = pd.concat([pd.DataFrame(others), search], ignore_index=True)
    count = len(trials)
    trials["trial"] = np.arange(count)
    trials["pretrain_key"] = trials["phase"].str.cat(trials["seed"].astype(str))
    settings = _settings(generator, num_proposals)
    proposal = trials["proposal"].fillna(0).astype(int)
    for name in PARAMETERS:
        trials[f"param/{name}"] = settings[name].to_numpy()[proposal]
    texts = np.array([json.dumps(row) for row in settings.to_dict("records")], dtype=object)
    trials["settings"] = texts[proposal]
    # The first three proposals are confirmed, and so have run to their end.
    stopped = (trials["phase"] == "search") & (trials["stage"] == "finetune") & (proposal > 2)
    epochs = np.where(stopped, generator.choice([*RUNGS, num_epochs], count, p=[0.5, 0.25, 0.25]), num_epochs)
    trials["epochs"] = np.minimum(epochs, num_epochs)
    trials["status"] = np.where(trials["epochs"] < num_epochs, "stopped", "complete")
    started = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    trials["started_at"] = pd.Timestamp(started) + pd.to_timedelta(np.arange(count), unit="s")
    trials["wall_s"] = trials["epochs"] * generator.uniform(0.5, 1.5, count)
    ended = trials["started_at"] + pd.to_timedelta(trials["wall_s"], unit="s")
    trials["ended_at"] = ended.dt.floor("us")
    trials["cpu_s"], trials["gpu_s"] = trials["wall_s"] * 0.9, trials["wall_s"] * 0.25
    complete = trials["status"] == "complete"
    trials["chosen_epoch"] = np.where(complete, num_epochs, np.nan)
    tested = complete & trials["arm"].notna()
    for index, metric in enumerate(METRICS):
        values = 70 - 3.0 * index + generator.normal(0, 2, count)
        trials[f"validation/{metric}"] = np.where(complete, values, np.nan)
        trials[f"test/{metric}"] = np.where(tested, values - 10, np.nan)
    return trials.assign(attempts=1, repeated_epochs=0, host="node", device="cuda", num_threads=1)


def _settings(generator: np.random.Generator, count: int) -> pd.DataFrame:
    columns: dict[str, np.ndarray] = {}
    for name, stated in PARAMETERS.items():
        low, high = stated["int"] if "int" in stated else stated["float"]  # type: ignore[misc]
        if "int" in stated:
            columns[name] = generator.integers(low, high, count, endpoint=True)
        elif stated["log"]:
            columns[name] = np.exp(generator.uniform(np.log(low), np.log(high), count))
        else:
            columns[name] = generator.uniform(low, high, count)
    return pd.DataFrame(columns)


def _epochs(generator: np.random.Generator, trials: pd.DataFrame) -> pd.DataFrame:
    counts = trials["epochs"].to_numpy()
    total = int(counts.sum())
    first = np.repeat(counts.cumsum() - counts, counts)
    columns: dict[str, Any] = {
        "trial": np.repeat(trials["trial"].to_numpy(), counts),
        "epoch": np.arange(total) - first + 1,
    }
    for name in (*LOSSES, "wall_s", "cpu_s", "gpu_s", *(f"validation/{metric}" for metric in METRICS)):
        columns[name] = generator.normal(60, 5, total)
    return pd.DataFrame(columns)


def _example() -> Row:
    """Return a row that has every column."""
    at = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    epoch = {name: 0.0 for name in (*LOSSES, "wall_s", "cpu_s", "gpu_s")}
    scores = {f"{split}/{metric}": 0.0 for split in ("validation", "test") for metric in METRICS}
    validation = {name: 0.0 for name in scores if name.startswith("validation")}
    result = {"metrics": scores, "chosen_epoch": 1}
    cell = Cell("ablation", "finetune", 0, "cont", 0, "k")
    return Row(
        0, cell, dict.fromkeys(PARAMETERS, 0.5), "complete", at, at, {1: epoch | validation}, result=result
    )


def _fill(path: Path, frame: pd.DataFrame) -> None:
    """Put a frame in the place of a table's rows; a column that the frame lacks is empty."""
    schema = pq.read_schema(path)
    arrays = [
        pa.array(frame[name], field.type, from_pandas=True)
        if name in frame
        else pa.nulls(len(frame), field.type)
        for name, field in zip(schema.names, schema, strict=True)
    ]
    pq.write_table(pa.table(arrays, schema=schema.remove_metadata()), path, compression="zstd")


def _manifest(winner: dict[str, Any]) -> dict[str, Any]:
    family = {"name": "losses", "metric": HEADLINE, "arms": ["+FSD", "+LCS", "FSD+LCS"], "against": "cont"}
    ablation = {"seeds": len(ABLATION_SEEDS), "baseline": "cont", "arms": ARMS, "families": [family]}
    search = {
        **{"trials": 0, "seeds": len(SEARCH_SEEDS), "batch": 6, "parameters": PARAMETERS},
        "confirm": {"top": 3, "seeds": len(CONFIRM_SEEDS)},
        "early_stopping": {"rungs": list(RUNGS), "keep": 0.5, "at_least": 4},
    }
    objective = {"metric": HEADLINE, "split": "validation"}
    return {
        "schema_version": SCHEMA_VERSION,
        "id": "generated",
        "command": [],
        "space": {
            **{"name": "generated", "title": "A generated study", "recipe": "ftcl", "data": "none"},
            **{"arms": ARMS, "baseline": "cont", "families": [family], "seeds": len(ABLATION_SEEDS)},
            "controls": {"arms": ["shuffled order"], "against": ["FSD+LCS"]},
            "definition": {"fixed": {}, "objective": objective, "search": search, "ablation": ablation},
        },
        "recipe": {"name": "ftcl", "version": 1},
        "data": {"spec": "none", "preset": "none", "fold": 0, "seed": 0, "fingerprint": "0"},
        "protocol": "default",
        "deterministic": False,
        "seed": 0,
        "gate": None,
        "metrics": dict.fromkeys(METRICS, "max"),
        "headline": HEADLINE,
        "seeds": {
            "search": {"ungated": list(SEARCH_SEEDS), "gated": None},
            "confirm": {"ungated": list(CONFIRM_SEEDS), "gated": None},
            "ablation": {"ungated": list(ABLATION_SEEDS), "gated": None},
        },
        "winner": winner,
        "finished": True,
        "versions": {},
        "git": None,
        "hardware": {},
        "launches": [],
    }
