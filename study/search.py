"""Proposals: the search space in Optuna's terms, the sampler, and what it is told.

Every proposal is one trial of the Optuna study "<study id>/proposals" in the ledger, written whole when it is
made. Its value is the mean objective over the search seeds; a proposal of which a run was stopped early is
told as pruned, with the means of the epochs that all its runs reached, so that the sampler never takes a
low-fidelity value for a final one.
"""

import hashlib
import math
import warnings
from bisect import insort
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Final

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from study.ledger_storage import open_study
from study.spec import Choice, FloatRange, IntRange, Search

# TPE takes the best tenth of what it sees for good, and never more than this.
_GOOD: Final = 25
LATEST: Final = 500
"""The sampler sees the best proposals, the latest finished ones and the latest open ones, so many of each:
its time would otherwise grow with the search. docs/scale.md shows that a search finds no less by it."""


class Proposals:
    """Asks the sampler for settings and tells it what they were worth.

    `active` names the parameters that are searched, given the values chosen so far.

    A proposal depends only on the seed, its own number and what the ledger holds when it is asked: the
    sampler starts from a fresh random state each time, so an interrupted search goes on without repeating
    itself. `latest` is LATEST but where that is studied.
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
        latest: int = LATEST,
    ) -> None:
        self._search = search
        self._active = active
        self._seed = seed
        self._defaults = dict(defaults)
        study = open_study(storage, f"{study_id}/proposals", "maximize" if direction == "max" else "minimize")
        self._direction = study.direction
        self._study_id = study._study_id
        self._storage = storage
        # TPE counts what it sees: fewer than `startup`, and it would propose at random for ever.
        latest = max(latest, search.sampler.startup)
        self._finished = _Finished(1.0 if direction == "min" else -1.0, latest)
        self._latest = latest
        self._ids: dict[int, int] = {}
        self.settings: dict[int, Mapping[str, Any]] = {}
        self._open: dict[int, FrozenTrial] = {}
        for trial in study.get_trials(deepcopy=False):
            self._ids[trial.number] = trial._trial_id
            self.settings[trial.number] = trial.params
            if trial.state.is_finished():
                self._finished.add(trial)
                continue
            if trial.state == TrialState.WAITING:
                storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
            self._open[trial.number] = storage.get_trial(trial._trial_id)

    def close(self) -> None:
        """Leave the proposals that have not been told yet to the next launch."""
        for number in self._open:
            self._storage.set_trial_state_values(self._ids[number], TrialState.WAITING)
        self._open.clear()

    def ask(self) -> int:
        """Return the number of a new proposal; number 0 is the published defaults."""
        number = len(self.settings)
        view = _View(number, [*self._finished.seen(), *list(self._open.values())[-self._latest :]])
        study = optuna.create_study(
            storage=view, sampler=self._make_sampler(number), direction=self._direction
        )
        if number == 0:
            study.enqueue_trial(self._defaults)
        trial = study.ask()
        self._suggest(study, trial)
        asked = view.get_trial(trial._trial_id)
        self._ids[number] = self._storage.create_new_trial(
            self._study_id,
            optuna.trial.create_trial(
                state=TrialState.RUNNING, params=asked.params, distributions=asked.distributions
            ),
        )
        self._open[number] = self._storage.get_trial(self._ids[number])
        self.settings[number] = self._open[number].params
        return number

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
        trial_id = self._ids[number]
        for epoch, mean in sorted(curve.items()):
            self._storage.set_trial_intermediate_value(trial_id, epoch, mean)
        if value is not None:
            self._storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [value])
        else:
            state = TrialState.PRUNED if curve else TrialState.FAIL
            self._storage.set_trial_state_values(trial_id, state)
        self._finished.add(self._storage.get_trial(trial_id))
        del self._open[number]

    def _make_sampler(self, purpose: object) -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{purpose}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        if self._search.sampler.name == "random":
            return RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            # Conditional parameters are modelled jointly only in groups.
            conditional = any(parameter.when for parameter in self._search.parameters.values())
            return (TPESampler if conditional else _Sampler)(
                n_startup_trials=self._search.sampler.startup,
                multivariate=True,
                group=conditional,
                seed=seed,
            )

    def _suggest(self, study: optuna.Study, trial: optuna.Trial) -> None:
        chosen: dict[str, Any] = {}
        # A parameter becomes active once those that it depends on have their values.
        while missing := [name for name in self._active(chosen) if name not in chosen]:
            name = missing[0]
            study.sampler = self._make_sampler(f"{trial.number}/{name}")
            chosen[name] = _suggest_one(trial, name, self._search.parameters[name])


class _Sampler(TPESampler):
    """TPE of a space in which every proposal has every parameter."""

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        # Optuna compares all proposals, to find what they have in common: half the time of an ask.
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        shared = finished[0].distributions if finished else {}
        return {name: shared[name] for name in sorted(shared) if not shared[name].single()}


class _Finished:
    """The finished proposals that the sampler sees, whatever the order in which they ended.

    TPE models the best ones apart from all others. It is shown all of the best and the latest of the others.
    `sign` makes the best value the least.
    """

    def __init__(self, sign: float, latest: int) -> None:
        self._sign = sign
        self._count = latest
        self._best: list[tuple[tuple[float, ...], int, FrozenTrial]] = []
        self._latest: list[tuple[int, FrozenTrial]] = []

    def add(self, trial: FrozenTrial) -> None:
        """Take in a proposal that has ended; one that failed teaches nothing."""
        if trial.state not in (TrialState.COMPLETE, TrialState.PRUNED):
            return
        insort(self._best, (self._rank(trial), trial.number, trial))
        del self._best[_GOOD:]
        insort(self._latest, (trial.number, trial))
        del self._latest[: -self._count]

    def seen(self) -> list[FrozenTrial]:
        """Return the best and the latest, in the order of their numbers."""
        seen = {number: trial for _, number, trial in self._best} | dict(self._latest)
        return [seen[number] for number in sorted(seen)]

    def _rank(self, trial: FrozenTrial) -> tuple[float, ...]:
        """Order proposals as TPE does: those that ran to their end, then those that came furthest."""
        if trial.value is not None:
            return (0, 0, self._sign * trial.value)
        if not trial.intermediate_values:
            return (1, 1, 0)
        epoch, value = max(trial.intermediate_values.items())
        return (1, -epoch, math.inf if math.isnan(value) else self._sign * value)


class _View(InMemoryStorage):
    """The storage of one ask: the new trial alone is in it, and the sampler sees the others beside it."""

    def __init__(self, number: int, seen: list[FrozenTrial]) -> None:
        super().__init__()
        self._number = number
        self._seen = seen

    def get_trial(self, trial_id: int) -> FrozenTrial:
        trial = super().get_trial(trial_id)
        trial.number = self._number
        return trial

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        seen = [trial for trial in self._seen if states is None or trial.state in states]
        return seen + super().get_all_trials(study_id, deepcopy, states)


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
