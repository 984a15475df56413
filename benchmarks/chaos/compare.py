"""Compares a study that was struck with one that was left alone: every difference is a violation."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import torch
from optuna.trial import FrozenTrial, TrialState
from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
    SCALARS,
    EventAccumulator,
)

from benchmarks.chaos.watch import PROPOSALS, TRIALS, read_studies

Cell = tuple[Any, ...]
_CELL: Final = ("phase", "stage", "seed", "arm", "proposal", "pretrain_key")
_UNTRAINED: Final = "context"


@dataclass(frozen=True)
class Check:
    """One thing that must hold, a figure for the reader, and what contradicts it."""

    name: str
    figure: str
    violations: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """What a finished study has left in its folder."""

    out: Path
    trials: Sequence[Mapping[str, Any]]  # rows of trials.parquet
    epochs: Sequence[Mapping[str, Any]]
    failures: Sequence[Mapping[str, Any]]
    ledger: Mapping[str, Sequence[FrozenTrial]]  # Optuna study -> its trials

    @staticmethod
    def read(out: Path) -> "Study":
        """Read the records and, without the study's own code, the ledger."""
        trials, epochs, failures = (
            pq.read_table(out / f"{name}.parquet").to_pylist() for name in ("trials", "epochs", "failures")
        )
        return Study(out, trials, epochs, failures, read_studies(out))

    @cached_property
    def counting(self) -> list[Mapping[str, Any]]:
        """The rows of the trials that count."""
        return [row for row in self.trials if row["superseded"] is None]

    @cached_property
    def by_cell(self) -> dict[Cell, Mapping[str, Any]]:
        """The rows that count, by their place in the design."""
        return {cell_of(row): row for row in self.counting}

    def end_of(self, trial: int) -> Mapping[str, Any]:
        """What the ledger holds of a trial's end."""
        end: Mapping[str, Any] = self.ledger[TRIALS][trial].user_attrs["end"]
        return end


def cell_of(row: Mapping[str, Any]) -> Cell:
    """Return the place of a trial in the design."""
    return tuple(row[name] for name in _CELL)


def compare(struck: Study, alone: Study, kills: int) -> list[Check]:
    """Return all checks of a struck study beside the undisturbed one."""
    checks = [
        ("every cell exactly once", f"{len(struck.by_cell)} cells", check_cells(struck, alone)),
        ("nothing left running or waiting", _show_states(struck), check_ended(struck)),
        ("no trial failed", _show_failures(struck), check_failed(struck)),
        ("results of every trial", f"{len(struck.by_cell)} trials", check_results(struck, alone)),
        ("metrics of every epoch", f"{len(struck.epochs)} epochs", check_epochs(struck, alone)),
        ("ablation.csv byte for byte", _digest(struck.out / "ablation.csv"), check_table(struck, alone)),
        ("proposals", f"{len(struck.ledger[PROPOSALS])} proposals", check_proposals(struck, alone)),
        ("pretrained weights", _show_models(struck), check_exports(struck, alone)),
        ("test detections", _count(struck.out / "predictions"), check_predictions(struck, alone)),
        ("TensorBoard curves", f"{len(struck.by_cell)} trials", check_curves(struck)),
        ("at most one epoch repeated per kill", _show_repeated(struck, kills), check_repeated(struck, kills)),
        ("no file of records is a part of one", _show_leftovers(struck), check_files(struck)),
    ]
    return [Check(name, figure, tuple(violations)) for name, figure, violations in checks]


def check_cells(struck: Study, alone: Study) -> Iterator[str]:
    for study, name in ((struck, "struck"), (alone, "undisturbed")):
        counts = Counter(cell_of(row) for row in study.counting)
        yield from (f"{name}: {count} trials for {cell}" for cell, count in counts.items() if count > 1)
    yield from (f"lost: {cell}" for cell in alone.by_cell.keys() - struck.by_cell.keys())
    yield from (f"not in the design: {cell}" for cell in struck.by_cell.keys() - alone.by_cell.keys())
    superseded = [row["trial"] for row in struck.trials if row["superseded"] is not None]
    yield from (f"trial {trial} is superseded, in a study that was never changed" for trial in superseded)
    known = [trial.number for trial in struck.ledger[TRIALS]]
    if known != [row["trial"] for row in struck.trials]:
        yield f"the ledger holds {len(known)} trials, trials.parquet {len(struck.trials)}"


def _show_states(study: Study) -> str:
    counts = Counter(trial.state.name.lower() for trials in study.ledger.values() for trial in trials)
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))


def check_ended(study: Study) -> Iterator[str]:
    for name, trials in study.ledger.items():
        for trial in trials:
            if trial.state in (TrialState.RUNNING, TrialState.WAITING):
                yield f"{name} {trial.number} is {trial.state.name}"


def _show_failures(study: Study) -> str:
    counts = Counter(failure["kind"] for failure in study.failures)
    return "attempts: " + (", ".join(f"{count} {kind}" for kind, count in counts.most_common()) or "all good")


def check_failed(study: Study) -> Iterator[str]:
    for row in study.trials:
        if row["status"] == "failed":
            yield f"trial {row['trial']}: {row['failure_kind']}: {row['failure']}"


def check_results(struck: Study, alone: Study) -> Iterator[str]:
    for cell, row, other in _pairs(struck, alone):
        names = {name for name in (*row, *other) if "/" in name} | {"status", "epochs", "chosen_epoch"}
        for name in sorted(names):
            if not _same(row.get(name), other.get(name)):
                yield f"{cell}: {name} is {row.get(name)!r}, undisturbed {other.get(name)!r}"


def check_epochs(struck: Study, alone: Study) -> Iterator[str]:
    mine, other = _epochs_by_cell(struck), _epochs_by_cell(alone)
    for key in sorted(mine.keys() | other.keys(), key=repr):
        if mine.get(key) != other.get(key):
            yield f"{key}: {mine.get(key)}, undisturbed {other.get(key)}"


def _epochs_by_cell(study: Study) -> dict[tuple[Cell, int], dict[str, str]]:
    """Return the metrics of each epoch, as text: exact, and NaN equals NaN."""
    cells = {row["trial"]: cell_of(row) for row in study.counting}
    found: dict[tuple[Cell, int], dict[str, str]] = {}
    for row in study.epochs:
        metrics = {name: repr(value) for name, value in row.items() if "/" in name and value is not None}
        if row["trial"] in cells:
            found[cells[row["trial"]], row["epoch"]] = metrics
    return found


def check_table(struck: Study, alone: Study) -> Iterator[str]:
    if (struck.out / "ablation.csv").read_bytes() != (alone.out / "ablation.csv").read_bytes():
        yield f"{struck.out / 'ablation.csv'} and {alone.out / 'ablation.csv'} differ"


def check_proposals(struck: Study, alone: Study) -> Iterator[str]:
    mine, other = ([trial.params for trial in study.ledger[PROPOSALS]] for study in (struck, alone))
    if mine != other:
        yield f"{mine}, undisturbed {other}"
    values = [[trial.values for trial in study.ledger[PROPOSALS]] for study in (struck, alone)]
    if values[0] != values[1]:
        yield f"their values are {values[0]}, undisturbed {values[1]}"


def _show_models(study: Study) -> str:
    names = {study.end_of(row["trial"])["result"]["export"] for row in _exporting(study)}
    return f"{len(names)} models, {len(list((study.out / 'pretrained').glob('*.pt')))} files"


def _exporting(study: Study) -> list[Mapping[str, Any]]:
    return [row for row in study.counting if row["stage"] == "pretrain"]


def check_exports(struck: Study, alone: Study) -> Iterator[str]:
    alone_by_key = {row["pretrain_key"]: row["trial"] for row in _exporting(alone)}
    for row in _exporting(struck):
        names = [
            study.out / study.end_of(trial)["result"]["export"]
            for study, trial in ((struck, row["trial"]), (alone, alone_by_key[row["pretrain_key"]]))
        ]
        mine, other = (torch.load(name, map_location="cpu", weights_only=True) for name in names)
        if mine.keys() != other.keys() or not all(torch.equal(mine[name], other[name]) for name in mine):
            yield f"{names[0].name} has other weights than {names[1].name}"


def check_predictions(struck: Study, alone: Study) -> Iterator[str]:
    for cell, row, other in _pairs(struck, alone):
        paths = [
            study.out / "predictions" / f"{trial}.parquet"
            for study, trial in ((struck, row["trial"]), (alone, other["trial"]))
        ]
        there = [path.exists() for path in paths]
        if there[0] != there[1]:
            yield f"{cell}: {paths[0].name} {'is there' if there[0] else 'is missing'}"
        elif there[0] and not pq.read_table(paths[0]).equals(pq.read_table(paths[1])):
            yield f"{cell}: {paths[0].name} differs"


def check_curves(study: Study) -> Iterator[str]:
    """Compare what TensorBoard shows of every trial, step by step, with the epochs on record."""
    by_trial: dict[int, dict[int, Mapping[str, Any]]] = {}
    for row in study.epochs:
        by_trial.setdefault(row["trial"], {})[row["epoch"]] = row
    for row in study.counting:
        epochs = by_trial.get(row["trial"], {})
        if row["phase"] == _UNTRAINED:
            continue
        events = EventAccumulator(str(study.out / "tensorboard" / str(row["trial"])), {SCALARS: 0})
        events.Reload()
        shown = {tag for tag in events.Tags()[SCALARS] if not tag.startswith("final/")}
        wanted = {name for metrics in epochs.values() for name in metrics if "/" in name}
        wanted = {name for name in wanted if any(m[name] is not None for m in epochs.values())}
        if shown != wanted:
            yield f"trial {row['trial']}: curves {sorted(shown)}, on record {sorted(wanted)}"
            continue
        for tag in sorted(shown):
            points = [(event.step, event.value) for event in events.Scalars(tag)]
            record = [(epoch, _single(m[tag])) for epoch, m in sorted(epochs.items()) if m[tag] is not None]
            if [step for step, _ in points] != [epoch for epoch, _ in record]:
                yield f"trial {row['trial']}: {tag} at {[step for step, _ in points]}"
            elif not all(_same(a, b) for (_, a), (_, b) in zip(points, record, strict=True)):
                yield f"trial {row['trial']}: {tag} shows other values than are on record"


def _show_repeated(study: Study, kills: int) -> str:
    epochs = sum(row["repeated_epochs"] for row in study.trials)
    attempts = sum(row["attempts"] for row in study.trials if row["phase"] != _UNTRAINED)
    lost_s = sum(failure["lost_s"] for failure in study.failures)
    return f"{epochs} for {kills} kills, {attempts} attempts, {lost_s:.0f} s of unfinished epochs"


def check_repeated(study: Study, kills: int) -> Iterator[str]:
    if (epochs := sum(row["repeated_epochs"] for row in study.trials)) > kills:
        yield f"{epochs} whole epochs repeated, {kills} kills"
    for trial in study.ledger[TRIALS]:
        resumed = _indexed(trial, "resumed/")
        known = {failure["attempt"] + 1: failure["epoch"] for failure in _indexed(trial, "failure/").values()}
        for attempt, epoch in resumed.items():
            if known.get(attempt, 0) - epoch > 1:
                yield f"trial {trial.number}: attempt {attempt} went on from {epoch}, not {known[attempt]}"


def _indexed(trial: FrozenTrial, prefix: str) -> dict[int, Any]:
    return {int(k.removeprefix(prefix)): v for k, v in trial.user_attrs.items() if k.startswith(prefix)}


def _show_leftovers(study: Study) -> str:
    return f"{len(list(study.out.rglob('*.tmp')))} temporary files of killed processes"


def check_files(study: Study) -> Iterator[str]:
    """Read every file that a study's reader might; temporary ones of killed processes are hidden."""
    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".npz": lambda path: dict(np.load(path)),
        ".parquet": pq.read_table,
        ".pt": lambda path: torch.load(path, map_location="cpu", weights_only=True),
    }
    for path in sorted(study.out.rglob("*")):
        if path.suffix == ".tmp" and not path.name.startswith("."):
            yield f"{path} would be taken for a file of the study"
        if path.suffix not in readers or path.name.startswith("."):
            continue
        try:
            readers[path.suffix](path)
        except Exception as error:
            yield f"{path}: {error}"


def _pairs(struck: Study, alone: Study) -> Iterable[tuple[Cell, Mapping[str, Any], Mapping[str, Any]]]:
    for cell in sorted(struck.by_cell.keys() & alone.by_cell.keys(), key=repr):
        yield cell, struck.by_cell[cell], alone.by_cell[cell]


def _same(a: object, b: object) -> bool:
    both_nan = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
    return a == b or both_nan


def _single(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float32).item())


def _digest(path: Path) -> str:
    return f"sha256 {hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def _count(folder: Path) -> str:
    return f"{len(list(folder.glob('*.parquet')))} files"
