"""A study's trials as its records tell them: what is needed to run one again."""

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from ftcl.recipes import RECIPES, Recipe
from ftcl.recipes.config import parameters, parse_value
from study.records import EPOCHS, TRIALS, RecordsError, read_manifest, read_table
from study.store import Store

_SETTING: Final = "param/"


@dataclass(frozen=True)
class Recorded:
    """One trial, from its rows of the tables."""

    row: Mapping[str, Any]  # of trials.parquet; None where a cell is empty
    epochs: Mapping[int, Mapping[str, float]]  # epoch -> losses and scores

    @property
    def trial(self) -> int:
        """Its number."""
        return int(self.row["trial"])

    @property
    def title(self) -> str:
        """What it stands for in the study, in words."""
        row = self.row
        named = [f"{name} {row[name]}" for name in ("arm", "proposal", "seed") if row[name] is not None]
        return f"trial {self.trial}: {', '.join(dict.fromkeys([row['stage'], row['phase'], *named]))}"

    @property
    def metrics(self) -> dict[str, float]:
        """Its final metrics."""
        return _values(self.row)


class Records:
    """The records of one study, read once."""

    def __init__(self, store: Store) -> None:
        """Read them; raises RecordsError where there are none, or of another schema."""
        self.store = store
        self.manifest = read_manifest(store)
        self._trials = read_table(store, TRIALS)
        self._epochs = read_table(store, EPOCHS)
        name = self.manifest["recipe"]["name"]
        if name not in RECIPES:
            raise RecordsError(f"{store} is a study of the recipe {name}, which is none of this release")
        self.recipe: Recipe = RECIPES[name]

    def trial(self, number: int) -> Recorded:
        """Return a trial; raises RecordsError if it is not on record."""
        rows = _rows(self._trials, "trial", number)
        if not rows:
            known = f"0 to {len(self._trials) - 1}" if len(self._trials) else "none yet"
            raise RecordsError(
                f"{self.store} has no trial {number} on record (there are {known}); a study that runs enters "
                "its trials in trials.parquet when it stops"
            )
        epochs = {row["epoch"]: _values(row) for row in _rows(self._epochs, "trial", number)}
        return Recorded(rows[0], epochs)

    def pretraining(self, key: str, stage: str) -> Recorded:
        """Return the trial that exported a key; of several the one that counts. Raises RecordsError."""
        rows = [
            row
            for row in _rows(self._trials, "pretrain_key", key)
            if row["stage"] == stage and row["status"] == "complete"
        ]
        if not rows:
            raise RecordsError(
                f"{self.store} has no complete pretraining of {key} on record, and its export is gone too"
            )
        return self.trial(max(rows, key=lambda row: (row["superseded"] is None, row["trial"]))["trial"])

    def settings_of(self, recorded: Recorded) -> dict[str, Any]:
        """Return a trial's settings. Raises RecordsError if its recipe has them no more."""
        known = parameters(self.recipe)
        settings: dict[str, Any] = json.loads(recorded.row["settings"])
        try:
            return {name: parse_value(known[name], value) for name, value in settings.items()}
        except KeyError as error:
            raise RecordsError(f"{recorded.title}: the recipe has no parameter {error} any more") from error
        except ValueError as error:
            raise RecordsError(f"{recorded.title}: {error}") from error

    def launches_of(self, recorded: Recorded) -> list[Mapping[str, Any]]:
        """Return the launches that may have run a trial, from its start to its end."""
        launches: list[Mapping[str, Any]] = self.manifest["launches"]
        started, ended = recorded.row["started_at"], recorded.row["ended_at"]
        begun = [datetime.datetime.fromisoformat(launch["at"]) for launch in launches]
        first = max((i for i, at in enumerate(begun) if at <= started), default=0)
        last = max((i for i, at in enumerate(begun) if ended is None or at <= ended), default=0)
        return launches[first : last + 1]

    def num_threads_of(self, recorded: Recorded) -> int:
        """Return on how many threads a trial ran, at its end."""
        own = recorded.row["num_threads"]  # of a trial with a result
        return int(self.launches_of(recorded)[-1]["num_threads"] if own is None else own)


def _values(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the losses and scores of a row; their columns are named <loss or split>/<name>."""
    return {
        name: value
        for name, value in row.items()
        if "/" in name and not name.startswith(_SETTING) and value is not None
    }


def _rows(table: pa.Table, column: str, value: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = table.filter(pc.equal(table[column], value)).to_pylist()
    return rows
