"""Which trials a study consists of: pure functions of the space and of what is known so far."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from ftcl.recipes.recipe import Direction
from study.spec import EarlyStopping, Setting, Settings, Space

GATE_ATTEMPTS = 3
"""At most so many times the wanted seeds are pretrained to find enough that pass the gate."""

_POOL = 3000
_MAX_BASE = 100_000


@dataclass(frozen=True)
class Seeds:
    """Disjoint pools of readable seeds for the three phases.

    With base 2, the ablation runs on 20000, 20001, ..., the search on 23000, ... and the confirmation on
    26000, .... ValueError for a base outside 0..100000 or for more seeds than a pool's 3000.
    """

    base: int

    def __post_init__(self) -> None:
        if not 0 <= self.base <= _MAX_BASE:
            raise ValueError(f"the seed must be from 0 to {_MAX_BASE}, not {self.base}")

    def ablation(self, count: int) -> tuple[int, ...]:
        return self._pool("ablation", 0, count)

    def search(self, count: int) -> tuple[int, ...]:
        return self._pool("search", _POOL, count)

    def confirm(self, count: int) -> tuple[int, ...]:
        return self._pool("confirmation", 2 * _POOL, count)

    def _pool(self, purpose: str, offset: int, count: int) -> tuple[int, ...]:
        if not 1 <= count <= _POOL:
            raise ValueError(f"the {purpose} can have 1 to {_POOL} seeds, not {count}")
        first = 10_000 * self.base + offset
        return tuple(range(first, first + count))


def trial_parameters(space: Space, proposal: Settings, overlay: Settings | None = None) -> dict[str, Setting]:
    """Settings of one trial, for the recipe to complete: fixed values, under the proposal, under the arm."""
    return {**space.fixed, **proposal, **(overlay or {})}


class GatedSeeds(NamedTuple):
    """What is known of the gate: seeds that count, seeds to pretrain now, and whether both are final."""

    chosen: tuple[int, ...]
    to_try: tuple[int, ...]
    settled: bool


def gated_seeds(candidates: Sequence[int], passed: Mapping[int, bool | None], wanted: int) -> GatedSeeds:
    """The first `wanted` candidates that pass the gate, a seed that misses it being replaced by the next.

    `passed` says of each seed that was started whether its pretrained model passed, or None while that is not
    known. Only the first 3 * wanted candidates are ever tried, so fewer may be chosen. What is chosen in the
    end does not depend on the order in which results arrive. Without a gate the first `wanted` are the seeds.
    """
    pool = candidates[: GATE_ATTEMPTS * wanted]
    alive = [seed for seed in pool if passed.get(seed) in (None, True)][:wanted]
    chosen = tuple(seed for seed in alive if passed.get(seed))
    to_try = tuple(seed for seed in alive if seed not in passed)
    return GatedSeeds(chosen, to_try, settled=len(chosen) == len(alive))


def ablation_cells(space: Space, seeds: Sequence[int]) -> list[tuple[str, int]]:
    """(arm, seed) of every ablation trial, seed by seed, so that an early look compares whole pairs."""
    return [(arm, seed) for seed in seeds for arm in space.ablation.arms]


def rank_proposals(values: Mapping[int, Sequence[float]], direction: Direction) -> list[int]:
    """Proposals from best to worst by the mean of their seeds' values; ties go to the earlier proposal.

    A proposal with fewer values (not confirmed, or stopped or failed on a seed) ranks below all with more:
    a mean over few seeds reaches further by luck. One without values is left out. ValueError on NaN.
    """
    if any(math.isnan(value) for of_proposal in values.values() for value in of_proposal):
        raise ValueError(f"a proposal cannot be ranked by NaN: {dict(values)}")
    sign = 1.0 if direction == "min" else -1.0
    measured = [proposal for proposal, of_proposal in values.items() if of_proposal]
    return sorted(measured, key=lambda p: (-len(values[p]), sign * fmean(values[p]), p))


def winner(values: Mapping[int, Sequence[float]], direction: Direction) -> int:
    """The best proposal of `rank_proposals`; ValueError if none has a value."""
    ranked = rank_proposals(values, direction)
    if not ranked:
        raise ValueError("no proposal has finished, so the search has no winner")
    return ranked[0]


def should_stop(num_better: int, num_others: int, rung: int, rule: EarlyStopping | None) -> bool:
    """Whether a run stops after `rung` epochs, where so many of the same seed's others show a better value.

    It goes on while it is among the best ceil(keep * (others + 1)), a tie counting for it, where fewer than
    `at_least` others are known, and at an epoch that is no rung.
    """
    if rule is None or rung not in rule.rungs or num_others < rule.at_least:
        return False
    # Rounded, since 0.07 * 100 is a little more than 7.
    return num_better >= math.ceil(round(rule.keep * (num_others + 1), 9))


@dataclass(frozen=True)
class Estimate:
    """What a study runs at most: early stopping and shared models can only make it less."""

    proposals: int
    search_trials: int
    confirm_trials: int
    ablation_trials: int
    pretrains: int
    """Distinct keys over all three phases, without replacements for the gate."""
    gate_pretrains: int
    """Further ones of all three phases if seeds keep missing the gate; 0 without a gate."""
    gate_trials: int
    """Further ablation trials, on the seeds that replace those which missed the gate; 0 without a gate."""

    @property
    def finetunes(self) -> int:
        return self.search_trials + self.confirm_trials + self.ablation_trials


def estimate(space: Space, seeds: Seeds, pretrain_key: Callable[[Settings, int], Hashable]) -> Estimate:
    """Count the trials and the distinct pretrained models of a study before it starts.

    `pretrain_key(settings, seed)` says which pretrained model a trial needs; `settings` hold what is fixed
    and the arm's overlay. A searched parameter of an earlier stage gives every proposal models of its own.
    """
    search, arms = space.search, tuple(space.ablation.arms.values())
    shared = space.shares_pretraining

    one_stage = len(space.stages) == 1

    def num_keys(pool: Sequence[int], overlays: Sequence[Settings]) -> int:
        if one_stage:
            return 0
        return len({pretrain_key(trial_parameters(space, {}, o), seed) for seed in pool for o in overlays})

    def num_pretrains(attempts: int) -> int:
        of_arms = num_keys(seeds.ablation(attempts * space.ablation.seeds), arms)
        if search is None:
            return of_arms
        per_search = num_keys(seeds.search(attempts * search.seeds), [{}])
        per_confirm = num_keys(seeds.confirm(attempts * search.confirm.seeds), [{}])
        if not shared:
            per_search, per_confirm = per_search * search.trials, per_confirm * search.confirm.top
        return per_search + per_confirm + of_arms

    pretrains = num_pretrains(1)
    ablation_trials = len(arms) * space.ablation.seeds
    # Of a recipe of one stage the gate judges the arms themselves, so they run on every seed that it tries.
    further = GATE_ATTEMPTS - 1 if one_stage else 1
    return Estimate(
        proposals=0 if search is None else search.trials,
        search_trials=0 if search is None else search.trials * search.seeds,
        confirm_trials=0 if search is None else search.confirm.top * search.confirm.seeds,
        ablation_trials=ablation_trials,
        pretrains=pretrains,
        gate_pretrains=num_pretrains(GATE_ATTEMPTS) - pretrains if space.gate else 0,
        gate_trials=further * ablation_trials if space.gate else 0,
    )
