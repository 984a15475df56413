"""Proposals: the search space in Optuna's terms, the sampler, and what it is told.

Every proposal is one trial of the Optuna study "<study id>/proposals" in the ledger. Its value is the mean
objective over the search seeds; a proposal of which a run was stopped early is told as pruned, with the means
of the epochs that all its runs reached, so that the sampler never takes a low-fidelity value for a final one.
"""

import hashlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from study.ledger_storage import open_study
from study.spec import Choice, FloatRange, IntRange, Search

_CLOSED: Final = "closed"  # attribute of a proposal that an orderly end left open


class Proposals:
    """Asks the sampler for settings and tells it what they were worth.

    `active` names the parameters that are searched, given the values chosen so far.

    A proposal depends only on the seed, its own number and what the ledger holds when it is asked: the
    sampler starts from a fresh random state each time, so an interrupted search goes on without repeating
    itself.
    """

    def __init__(
        self,
        storage: BaseStorage,
        study_id: str,
        search: Search,
        active: Callable[[Mapping[str, Any]], Sequence[str]],
        *,
        direction: str,
        seed: int,
        defaults: Mapping[str, Any],
    ) -> None:
        self._search = search
        self._active = active
        self._seed = seed
        self._defaults = dict(defaults)
        self._study = open_study(
            storage, f"{study_id}/proposals", "maximize" if direction == "max" else "minimize"
        )
        self._storage = storage
        self._ids: dict[int, int] = {}
        self.settings: dict[int, Mapping[str, Any]] = {}
        self._open: set[int] = set()
        for trial in self._study.get_trials(deepcopy=False):
            if trial.state == TrialState.WAITING and _CLOSED not in trial.user_attrs:
                continue  # enqueued, not asked yet
            self._ids[trial.number] = trial._trial_id
            self.settings[trial.number] = trial.params
            if not trial.state.is_finished():
                self._reopen(trial)

    def _reopen(self, trial: FrozenTrial) -> None:
        # A waiting one would be handed out again by the next ask.
        if trial.state == TrialState.WAITING:
            self._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
        self._open.add(trial.number)
        if set(self._active(trial.params)) - set(trial.params):
            # A crash between the ask and its last suggestion leaves the settings incomplete.
            self._study.sampler = self._make_sampler(trial.number)
            self.settings[trial.number] = self._suggest(optuna.Trial(self._study, trial._trial_id))

    def close(self) -> None:
        """Leave the proposals that have not been told yet to the next launch."""
        for number in sorted(self._open):
            # Apart from the one that is enqueued and was never asked.
            self._storage.set_trial_user_attr(self._ids[number], _CLOSED, True)
            self._storage.set_trial_state_values(self._ids[number], TrialState.WAITING)
        self._open.clear()

    def ask(self) -> int:
        """Return the number of a new proposal; number 0 is the published defaults."""
        number = len(self.settings)
        self._study.sampler = self._make_sampler(number)
        if not self._study.get_trials(deepcopy=False):
            self._study.enqueue_trial(self._defaults)
        trial = self._study.ask()
        self._ids[trial.number] = trial._trial_id
        self.settings[trial.number] = self._suggest(trial)
        self._open.add(trial.number)
        return trial.number

    def is_open(self, number: int) -> bool:
        """Say whether a proposal has not been told yet."""
        return number in self._open

    def any_open(self) -> bool:
        """Say whether some proposal has not been told yet."""
        return bool(self._open)

    def tell(self, number: int, value: float | None, curve: Mapping[int, float]) -> None:
        """Tell what a proposal was worth.

        `value` is its mean objective, or None if a run of it was stopped or failed; `curve` the mean
        objective by epoch. Without either the proposal counts as failed.
        """
        for epoch, mean in sorted(curve.items()):
            self._storage.set_trial_intermediate_value(self._ids[number], epoch, mean)
        if value is not None:
            self._study.tell(number, value, skip_if_finished=True)
        else:
            self._study.tell(
                number, state=TrialState.PRUNED if curve else TrialState.FAIL, skip_if_finished=True
            )
        self._open.discard(number)

    def _make_sampler(self, purpose: object) -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{purpose}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self._search.sampler.name == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return TPESampler(
                n_startup_trials=self._search.sampler.startup,
                multivariate=True,
                # Conditional parameters are modelled jointly only in groups.
                group=any(parameter.when for parameter in self._search.parameters.values()),
                seed=seed,
            )

    def _suggest(self, trial: optuna.Trial) -> Mapping[str, Any]:
        chosen: dict[str, Any] = {}
        # A parameter becomes active once those that it depends on have their values.
        while missing := [name for name in self._active(chosen) if name not in chosen]:
            name = missing[0]
            # A random state for each parameter: those that a crash left behind draw nothing when asked again.
            self._study.sampler = self._make_sampler(f"{trial.number}/{name}")
            chosen[name] = _suggest_one(trial, name, self._search.parameters[name])
        return chosen


def _suggest_one(trial: optuna.Trial, name: str, range_: FloatRange | IntRange | Choice) -> Any:
    match range_:
        case FloatRange(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case IntRange(low=low, high=high, step=step, log=log):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case Choice(options=options):
            return trial.suggest_categorical(name, options)


def mean_curve(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Average several runs epoch by epoch, over the epochs that all of them reached."""
    if not curves:
        return {}
    shared = set.intersection(*(set(curve) for curve in curves))
    return {epoch: sum(curve[epoch] for curve in curves) / len(curves) for epoch in sorted(shared)}
