"""Reads the ledger of a study beside the driver that writes it: Optuna reads a journal without a lock."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

LEDGER: Final = "ledger.journal"
TRIALS: Final = "trials"  # how the names of the two Optuna studies in it end
PROPOSALS: Final = "proposals"
_EPOCH: Final = "epoch/"
optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Held:
    """What a ledger holds at one moment."""

    epochs: int
    states: Mapping[str, int]  # RUNNING, WAITING, COMPLETE, PRUNED, FAIL -> trials
    running: Mapping[int, int]  # trial -> its last epoch on record

    def __str__(self) -> str:
        states = ", ".join(f"{count} {state.lower()}" for state, count in self.states.items())
        running = " ".join(f"{trial}:{epoch}" for trial, epoch in self.running.items())
        return f"{self.epochs} epochs; {states or 'no trials'}; running trial:epoch {running or '-'}"


def read_studies(out: Path) -> dict[str, list[FrozenTrial]]:
    """Return the trials of every Optuna study in the ledger, by the last part of the study's name."""
    path = out / LEDGER
    if not path.exists():
        return {}
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
    return {
        study.study_name.rpartition("/")[2]: storage.get_all_trials(study._study_id, deepcopy=False)
        for study in storage.get_all_studies()
    }


def epochs_of(trial: FrozenTrial) -> list[int]:
    """Return the epochs on record of a trial, ascending."""
    return sorted(int(name[len(_EPOCH) :]) for name in trial.user_attrs if name.startswith(_EPOCH))


def read_held(out: Path) -> Held:
    """Return what the ledger of a study holds now."""
    trials = read_studies(out).get(TRIALS, [])
    return Held(
        epochs=sum(len(epochs_of(trial)) for trial in trials),
        states=dict(sorted(Counter(trial.state.name for trial in trials).items())),
        running={
            trial.number: max(epochs_of(trial), default=0)
            for trial in trials
            if trial.state == TrialState.RUNNING
        },
    )


def newest_running_checkpoint(out: Path) -> Path | None:
    """Return the checkpoint that a running trial wrote last; None if there is none to damage.

    One that has none before it to fall back on is left alone, unless it is of the first epoch: a trial that
    has its result keeps one, and runs again if the ledger loses its end.
    """
    found = []
    for trial in read_held(out).running:
        # The names of a trial's curves end in its run key and its attempt: "....<run key>.<attempt>".
        keys = {path.name.split(".")[-2] for path in (out / "tensorboard" / str(trial)).glob("*.*.*")}
        for key in keys:
            paths = list((out / "checkpoints" / key).glob("[0-9]*.pt"))
            if len(paths) > 1 or any("-000001-" in path.name for path in paths):
                found += paths
    return max(found, key=lambda path: path.stat().st_mtime_ns, default=None)
