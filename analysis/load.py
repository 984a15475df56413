"""Reading a study's folder: the one place in analysis that knows how records are laid out."""

import datetime
import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.statistics import Direction
from study.records import (
    EPOCHS,
    FAILURES,
    GROUND_TRUTH,
    MANIFEST,
    TRIALS,
    RecordsError,
    Store,
    details_name,
    open_store,
    predictions_name,
    read_manifest,
    read_table,
)

_NEEDED_COLUMNS: Final = (
    *("trial", "phase", "stage", "arm", "seed", "proposal", "pretrain_key", "status", "superseded"),
    *("failure", "failure_kind", "attempts", "host", "started_at", "ended_at", "epochs", "chosen_epoch"),
    *("wall_s", "cpu_s", "gpu_s", "settings"),
)
_PREDICTION_COLUMNS: Final = ("video", "label", "start_s", "end_s", "score")
_OPTIONAL: Final = (dict, type(None))
# What a manifest's entries have to be for all that reads them later.
_TYPES: Final[Mapping[tuple[str, ...], type | tuple[type, ...]]] = {
    ("command",): list,
    ("data", "fold"): int,
    ("data", "spec"): str,
    ("gate",): _OPTIONAL,
    ("git",): _OPTIONAL,
    ("hardware",): dict,
    ("launches",): list,
    ("metrics",): dict,
    ("space", "arms"): dict,
    ("space", "controls"): _OPTIONAL,
    ("space", "definition"): dict,
    ("space", "families"): list,
    ("space", "seeds"): int,
    ("space", "title"): str,
    ("versions",): dict,
    ("winner",): _OPTIONAL,
}


@dataclass(frozen=True)
class Family:
    """Comparisons that answer one question together."""

    name: str
    metric: str
    arms: tuple[str, ...]
    against: str


@dataclass(frozen=True)
class Gate:
    """What a seed's pretrained model must reach on validation; in a one-stage recipe those of all arms."""

    metric: str
    at_least: float
    of_all_arms: bool = False

    def __str__(self) -> str:
        models = "the models of all arms" if self.of_all_arms else "the pretrained model"
        return f"{self.metric} of {models} at least {self.at_least:g} on validation"

    @property
    def clause(self) -> str:
        """Say which seeds pass, to stand after "seeds"."""
        models = "on which the models of all arms" if self.of_all_arms else "whose pretrained model"
        return f"{models} reached {self.metric} = {self.at_least:g} on validation"


@dataclass(frozen=True)
class Study:
    """A study as its records tell it."""

    store: Store
    name: str
    title: str
    recipe: str
    data: str
    fold: int
    data_seed: int
    fingerprint: str
    arms: tuple[str, ...]
    baseline: str
    families: tuple[Family, ...]
    controls: tuple[str, ...]
    controls_against: tuple[str, ...]
    metrics: Mapping[str, Direction]  # in the order of the manifest
    headline: str
    protocol: str
    gate: Gate | None
    num_seeds: int  # wanted of every arm
    ungated_seeds: tuple[int, ...]
    gated_seeds: tuple[int, ...] | None  # None: no gate, or a gate that is still undecided
    winner: Mapping[str, Any] | None  # the settings that the ablation ran on
    versions: Mapping[str, str | None]  # None: not installed
    git: Mapping[str, str] | None  # revision and diff of the source tree; None: not a checkout
    trials: pd.DataFrame  # those that count
    superseded: pd.DataFrame  # those that do not any more, with the reason
    manifest: Mapping[str, Any]  # all of it: hardware, launches, the space's definition, ...

    @property
    def definition(self) -> Mapping[str, Any]:
        """The search space as its file states it (`search`, `ablation`, `gate`, ...)."""
        definition: Mapping[str, Any] = self.manifest["space"]["definition"]
        return definition

    @property
    def finished(self) -> bool:
        """Whether nothing is left to run."""
        return bool(self.manifest["finished"])

    def epochs(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Read the epochs of all trials, or some of their columns; those that are not there are left out."""
        return _to_frame(read_table(self.store, EPOCHS, columns))

    def failures(self) -> pd.DataFrame:
        """Read the attempts that failed or were cut off."""
        return _to_frame(read_table(self.store, FAILURES))

    def predictions(self, trial: int) -> pd.DataFrame:
        """Read the test detections of an ablation trial: video, label, start_s, end_s, score."""
        name = predictions_name(trial)
        table = _to_frame(read_table(self.store, name))
        absent = [column for column in _PREDICTION_COLUMNS if column not in table]
        if absent:
            raise RecordsError(f"{self.store.place(name)} is damaged: it has no column {', '.join(absent)}")
        return table

    def details(self, trial: int) -> dict[str, np.ndarray]:
        """Read CAS, attention and alignments of a few test videos; raises RecordsError if there are none."""
        name = details_name(trial)
        try:
            with np.load(io.BytesIO(self.store.read(name)), allow_pickle=False) as arrays:
                return dict(arrays)
        except FileNotFoundError as error:
            raise RecordsError(f"{self.store.place(name)} is missing") from error
        except (ValueError, OSError, zipfile.BadZipFile) as error:
            raise RecordsError(f"{self.store.place(name)} cannot be read ({error})") from error

    def ground_truth(self) -> Mapping[str, Any]:
        """Read the test videos' annotations, ActivityNet form: video -> duration, annotations."""
        try:
            content: Mapping[str, Any] = json.loads(self.store.read(GROUND_TRUTH))["database"]
            for video in content.values():
                float(video.get("duration", 0.0))
                segments = [item["segment"] for item in video["annotations"] if item["label"]]
                np.array(segments, dtype=np.float64).reshape(-1, 2)
        except FileNotFoundError as error:
            raise RecordsError(f"{self.store.place(GROUND_TRUTH)} is missing") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            words = f"{type(error).__name__}: {error}"
            raise RecordsError(f"{self.store.place(GROUND_TRUTH)} is damaged ({words})") from error
        return content

    @cached_property
    def runs(self) -> Mapping[str, pd.DataFrame]:
        """The trials of the ablation that count, and what needs no training: arm -> seed -> trial."""
        runs = self.trials[self.trials["phase"].isin(["ablation", "context"])]
        return {str(arm): own.set_index("seed") for arm, own in runs.groupby("arm", sort=False)}

    @property
    def selections(self) -> dict[str, tuple[int, ...]]:
        """The selections of ablation seeds that have a table, the main one first."""
        gated = {} if self.gated_seeds is None else {"gated": self.gated_seeds}
        return {**gated, "ungated": self.ungated_seeds}

    @property
    def main_seeds(self) -> tuple[int, ...]:
        """The ablation seeds that conclusions rest on."""
        return self.ungated_seeds if self.gated_seeds is None else self.gated_seeds


def load_study(out: str | Path) -> Study:
    """Read a study's manifest and trials, from a folder or a URI.

    Raises RecordsError, naming the file, if the folder is no study or its records are incomplete; StoreError
    for an address that names no store, StorageError (an OSError) for a store that does not answer.
    """
    store = open_store(out)
    if store.local is not None and not store.local.is_dir():
        raise RecordsError(f"{out} is not a folder; give the folder that the study wrote (its --out)")
    manifest = read_manifest(store)
    table = _read_trials(store)
    try:
        _check_types(manifest)
        study = _study(store, manifest, table)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, RecordsError):
            raise
        raise RecordsError(
            f"{store.place(MANIFEST)} is damaged ({type(error).__name__}: {error}); restore it from a copy "
            "of the study: it cannot be derived from the ledger"
        ) from error
    _check_metrics(study)
    return study


def _read_trials(store: Store) -> pd.DataFrame:
    trials = _to_frame(read_table(store, TRIALS))
    missing = [name for name in _NEEDED_COLUMNS if name not in trials]
    if missing:
        raise RecordsError(
            f"{store.place(TRIALS)} has no column {', '.join(missing)}; run the study's command again"
        )
    for name in map(str, trials.columns):
        is_score = name.startswith(("test/", "validation/")) and trials[name].notna().any()
        if is_score and not pd.api.types.is_numeric_dtype(trials[name]):
            raise RecordsError(f"{store.place(TRIALS)} has a column {name} that holds no numbers")
    return trials


def _to_frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _study(store: Store, manifest: Mapping[str, Any], table: pd.DataFrame) -> Study:
    space, data = manifest["space"], manifest["data"]
    if manifest["seeds"] is None:
        raise RecordsError(
            f"{store.place(MANIFEST)} names no seeds yet: the study has just started, try again later"
        )
    seeds = manifest["seeds"]["ablation"]
    controls = space["controls"] or {"arms": (), "against": ()}
    one_stage = len(manifest["recipe"].get("stages", ())) == 1
    return Study(
        store=store,
        name=space["name"],
        title=space["title"],
        recipe=space["recipe"],
        data=data["spec"],
        fold=data["fold"],
        data_seed=data["seed"],
        fingerprint=data["fingerprint"],
        arms=tuple(space["arms"]),
        baseline=space["baseline"],
        families=tuple(
            Family(family["name"], family["metric"], tuple(family["arms"]), family["against"])
            for family in space["families"]
        ),
        controls=tuple(controls["arms"]),
        controls_against=tuple(controls["against"]),
        metrics=manifest["metrics"],
        headline=manifest["headline"],
        protocol=manifest["protocol"],
        gate=None if manifest["gate"] is None else Gate(**manifest["gate"], of_all_arms=one_stage),
        num_seeds=space["seeds"],
        ungated_seeds=tuple(seeds["ungated"]),
        gated_seeds=None if seeds["gated"] is None else tuple(seeds["gated"]),
        winner=manifest["winner"],
        versions=manifest["versions"],
        git=manifest["git"],
        trials=table[table["superseded"].isna()],
        superseded=table[table["superseded"].notna()],
        manifest=manifest,
    )


def _check_types(manifest: Mapping[str, Any]) -> None:
    for path, wanted in _TYPES.items():
        value: Any = manifest
        for key in path:
            value = value[key]
        if not isinstance(value, wanted):
            raise TypeError(f"{': '.join(path)} is {value!r:.60}")
    for launch in manifest["launches"]:
        datetime.datetime.fromisoformat(launch["at"])
        " ".join(launch["command"])
    if manifest["gate"] is not None:
        float(manifest["gate"]["at_least"])


def _check_metrics(study: Study) -> None:
    for metric in (study.headline, *(family.metric for family in study.families)):
        if metric not in study.metrics:
            raise RecordsError(
                f"{study.store.place(MANIFEST)} compares on {metric}, which is not among its metrics: "
                f"{', '.join(study.metrics)}"
            )
