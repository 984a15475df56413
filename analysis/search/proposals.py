"""The proposals of a search with their settings and what each was worth.

The unit is the proposal: its value is the mean of the objective over the search seeds, and only a proposal
that ran to its end on all of them has one. All such means rest on the same seeds, so they are paired by seed.
"""

import json
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis.load import Study
from analysis.statistics import Direction
from analysis.tables.table import NothingToShow

NO_SEARCH: Final = "this study searches no settings"
_RUN_COLUMNS: Final = ("trial", "seed", "proposal", "status", "epochs", "started_at", "ended_at", "wall_s")


@dataclass(frozen=True)
class Parameter:
    """A searched parameter and its range; `options` are those of one without an order."""

    name: str
    label: str  # without the group where all searched parameters share it
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    integer: bool = False
    options: tuple[Any, ...] = ()
    conditional: bool = False  # searched only beside certain values of other parameters

    def position(self, values: pd.Series) -> np.ndarray:
        """Return where values lie between low (0) and high (1), or which option each is."""
        if self.options:
            places = {repr(option): place for place, option in enumerate(self.options)}
            return values.map(lambda value: places.get(repr(value), math.nan)).to_numpy(dtype=np.float64)
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (np.log(numbers) - low) / (high - low)
        return (numbers - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Objective:
    """What the search improved, as the records name it."""

    column: str  # "validation/<metric>"
    metric: str
    split: str
    direction: Direction

    @property
    def label(self) -> str:
        """Return it in words."""
        return f"{self.metric} on {self.split}"

    @property
    def sign(self) -> float:
        """Return what makes the better value the greater one."""
        return 1.0 if self.direction == "max" else -1.0


@dataclass(frozen=True)
class EarlyStopping:
    """After `rungs` epochs a run stops unless it is among the best `keep` share of its seed's runs."""

    rungs: tuple[int, ...]
    keep: float
    at_least: int  # others of its seed at the rung, or none is stopped there


@dataclass(frozen=True)
class SearchRecords:
    """A study's search: what was searched, for what, and every run of it."""

    study: Study
    parameters: tuple[Parameter, ...]
    objective: Objective
    early_stopping: EarlyStopping | None
    batch: int | None  # proposals asked at once, where they must not depend on timing
    runs: pd.DataFrame  # one row per proposal and seed: trial, seed, proposal, status, ..., value

    @property
    def seeds(self) -> list[int]:
        """Return the search seeds that have runs."""
        return sorted(int(seed) for seed in self.runs["seed"].unique())

    @cached_property
    def proposals(self) -> pd.DataFrame:
        """Return one row per proposal: its settings by name, `state`, `num_complete`, `value`, `ended_at`.

        `state` is complete (on all seeds, with a number), stopped or failed (on at least one), or running.
        """
        runs, wanted = self.runs, len(self.seeds)
        status = pd.DataFrame(
            {
                "proposal": runs["proposal"],
                **{name: runs["status"] == name for name in ("failed", "stopped")},
                "ended": runs["value"].notna(),
            }
        )
        counts = status.groupby("proposal").sum()
        grouped = runs.groupby("proposal")
        complete = counts["ended"] == wanted
        state = np.select(
            [counts["failed"] > 0, counts["stopped"] > 0, complete],
            ["failed", "stopped", "complete"],
            "running",
        )
        mean = grouped["value"].mean()
        frame = pd.DataFrame(
            {
                "state": state,
                "num_complete": counts["ended"],
                "value": mean.where(state == "complete"),
                "ended_at": grouped["ended_at"].max(),
            }
        )
        return self._settings().join(frame, how="right").reset_index()

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """Return one row per run and epoch with a value of the objective, in order.

        trial, seed, proposal, status, epoch, `value`, and `best`, the best value up to that epoch, which is
        what a rung compares and what the exported epoch has.
        """
        column = self.objective.column
        epochs = self.study.epochs(["trial", "epoch", column])
        if column not in epochs:
            raise NothingToShow(f"no epoch of the search has a value of {self.objective.label}")
        epochs = epochs.rename(columns={column: "value"}).dropna(subset="value")
        runs = self.runs[["trial", "seed", "proposal", "status"]]
        epochs = runs.merge(epochs, on="trial").sort_values(["trial", "epoch"], kind="stable")
        by_trial = epochs.groupby("trial")["value"]
        best = by_trial.cummax() if self.objective.direction == "max" else by_trial.cummin()
        return epochs.assign(best=best).reset_index(drop=True)

    def values_at(self, epoch: int) -> pd.Series:
        """Return by proposal the mean over seeds of the best value up to an epoch.

        Of the proposals whose runs all reached it, stopped there or not.
        """
        reached = self.epochs[self.epochs["epoch"] == epoch].groupby("proposal")["best"]
        return reached.mean()[reached.size() == len(self.seeds)]

    def complete(self) -> pd.DataFrame:
        """Return the proposals that have a value; raises NothingToShow if there are none."""
        proposals = self.proposals[self.proposals["state"] == "complete"]
        if proposals.empty:
            raise NothingToShow(
                f"none of the {len(self.proposals)} proposals has run to its end on all search seeds"
            )
        return proposals

    @property
    def num_stopped(self) -> int:
        """Return how many proposals were stopped early, on one seed at least."""
        return int((self.proposals["state"] == "stopped").sum())

    @cached_property
    def winner(self) -> int | None:
        """Return the proposal that the ablation ran on; None while there is none."""
        settings = self.study.winner
        if settings is None:
            return None
        names = [parameter.name for parameter in self.parameters]
        for _, row in self.complete().iterrows():
            if all(_same(row[name], settings.get(name)) for name in names):
                return int(row["proposal"])
        return None

    def _settings(self) -> pd.DataFrame:
        """Return the settings by proposal, as they were proposed."""
        first = self.runs.drop_duplicates("proposal").set_index("proposal")
        columns = {}
        parsed = None
        for parameter in self.parameters:
            recorded = f"param/{parameter.name}"
            if parameter.options:
                # Its column may hold values of several types as text.
                parsed = [json.loads(text) for text in first["settings"]] if parsed is None else parsed
                values = [settings.get(parameter.name) for settings in parsed]
                columns[parameter.name] = pd.Series(values, first.index, dtype=object)
            elif recorded in first:
                columns[parameter.name] = first[recorded].astype(np.float64)
            else:
                columns[parameter.name] = pd.Series(math.nan, first.index)
        return pd.DataFrame(columns, index=first.index)


def search_of(study: Study) -> SearchRecords:
    """Return what the records tell about a study's search; raises NothingToShow if it has none."""
    search = study.definition.get("search")
    if not search:
        raise NothingToShow(NO_SEARCH)
    objective = _objective(study)
    trials = study.trials
    runs = trials[(trials["phase"] == "search") & trials["proposal"].notna()]
    if runs.empty:
        raise NothingToShow("no proposal of the search has started")
    parameters = _parameters(search["parameters"])
    values = runs[objective.column] if objective.column in runs else pd.Series(math.nan, runs.index)
    values = values.where(runs["status"] == "complete").astype(np.float64)
    settings = [f"param/{parameter.name}" for parameter in parameters]
    columns = [*_RUN_COLUMNS, "settings", *(name for name in settings if name in runs)]
    rule = search.get("early_stopping")
    return SearchRecords(
        study=study,
        parameters=parameters,
        objective=objective,
        early_stopping=rule and EarlyStopping(tuple(rule["rungs"]), rule["keep"], rule["at_least"]),
        batch=search["batch"] if study.manifest["deterministic"] else None,
        runs=runs[columns]
        .assign(value=values.where(np.isfinite(values)))
        .astype({"seed": np.int64, "proposal": np.int64})
        .reset_index(drop=True),
    )


def _objective(study: Study) -> Objective:
    stated = study.definition["objective"]
    metric = stated["metric"]
    # Under the reference protocol everything is chosen on the test videos.
    split = "test" if study.protocol == "reference" else stated["split"]
    return Objective(f"{split}/{metric}", metric, split, study.metrics[metric])


def _parameters(stated: dict[str, Any]) -> tuple[Parameter, ...]:
    shared = len({name.partition(".")[0] for name in stated}) == 1
    parameters = []
    for name, content in stated.items():
        label = name.partition(".")[2] if shared else name
        conditional = bool(content.get("when"))
        if "choice" in content:
            options = tuple(content["choice"])
            parameters.append(Parameter(name, label, options=options, conditional=conditional))
            continue
        integer = "int" in content
        low, high = content["int" if integer else "float"]
        parameters.append(
            Parameter(name, label, low, high, bool(content.get("log")), integer, conditional=conditional)
        )
    return tuple(parameters)


def _same(recorded: Any, wanted: Any) -> bool:
    if isinstance(recorded, float) and math.isnan(recorded):
        return wanted is None
    return bool(recorded == wanted)
