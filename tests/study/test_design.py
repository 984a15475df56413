import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.design import (
    Estimate,
    Seeds,
    ablation_cells,
    estimate,
    gated_seeds,
    rank_proposals,
    should_stop,
    trial_parameters,
    winner,
)
from study.spec import EarlyStopping, FloatRange, Gate, Settings, Space, load_space

CANDIDATES = Seeds(0).ablation(30)


@pytest.fixture(scope="module")
def space() -> Space:
    return load_space("fsd_lcs")


# Seeds


def test_seeds_are_readable() -> None:
    seeds = Seeds(2)
    assert seeds.ablation(3) == (20000, 20001, 20002)
    assert seeds.search(2) == (23000, 23001)
    assert seeds.confirm(2) == (26000, 26001)


@given(st.lists(st.integers(0, 100_000), min_size=2, max_size=2, unique=True))
def test_no_two_pools_share_a_seed(bases: list[int]) -> None:
    pools = [
        draw(3000)
        for base in bases
        for draw in (Seeds(base).ablation, Seeds(base).search, Seeds(base).confirm)
    ]
    assert len(set().union(*pools)) == 6 * 3000


@pytest.mark.parametrize("count", [0, 3001])
def test_a_pool_has_bounds(count: int) -> None:
    with pytest.raises(ValueError, match=f"the search can have 1 to 3000 seeds, not {count}"):
        Seeds(0).search(count)


@pytest.mark.parametrize("base", [-1, 100_001])
def test_a_base_has_bounds(base: int) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 100000, not {base}"):
        Seeds(base)


# Settings and cells


def test_an_arm_lies_over_the_proposal_and_that_over_what_is_fixed(space: Space) -> None:
    fixed = space.model_copy(update={"fixed": {"a": 1, "b": 1, "c": 1}})
    assert trial_parameters(fixed, {"b": 2, "c": 2}, {"c": 3}) == {"a": 1, "b": 2, "c": 3}
    assert trial_parameters(fixed, {"b": 2}) == {"a": 1, "b": 2, "c": 1}


def test_cells_go_seed_by_seed(space: Space) -> None:
    cells = ablation_cells(space, [5, 7])
    arms = list(space.ablation.arms)
    assert cells == [(arm, 5) for arm in arms] + [(arm, 7) for arm in arms]


# The gate


@given(
    st.integers(1, 10),
    st.dictionaries(st.sampled_from(CANDIDATES), st.sampled_from([True, False, None])),
)
def test_the_gate_keeps_its_promises_in_every_state(wanted: int, passed: dict[int, bool | None]) -> None:
    chosen, to_try, settled = gated_seeds(CANDIDATES, passed, wanted)
    pool = CANDIDATES[: 3 * wanted]
    assert len(chosen) + len(to_try) <= wanted
    assert all(passed[seed] is True for seed in chosen)
    assert all(seed not in passed for seed in to_try)
    assert set(chosen) | set(to_try) <= set(pool)
    if settled:
        assert not to_try
        assert chosen == tuple(seed for seed in pool if passed.get(seed))[:wanted]
        assert len(chosen) == wanted or all(seed in passed for seed in pool)


@given(
    st.integers(1, 10), st.lists(st.booleans(), min_size=30, max_size=30), st.randoms(use_true_random=False)
)
def test_what_passes_the_gate_depends_on_no_timing(
    wanted: int, truth: list[bool], order: random.Random
) -> None:
    passes = dict(zip(CANDIDATES, truth, strict=True))
    passed: dict[int, bool | None] = {}
    while not (state := gated_seeds(CANDIDATES, passed, wanted)).settled:
        passed |= dict.fromkeys(state.to_try)
        running = [seed for seed, known in passed.items() if known is None]
        finished = order.choice(running)
        passed[finished] = passes[finished]
    assert state.chosen == tuple(seed for seed in CANDIDATES[: 3 * wanted] if passes[seed])[:wanted]
    # No more models are trained than misses had to be replaced.
    assert len(passed) == min(3 * wanted, wanted + sum(known is False for known in passed.values()))


def test_the_gate_starts_with_the_wanted_seeds_and_replaces_a_miss_by_the_next() -> None:
    assert gated_seeds((1, 2, 3, 4, 5, 6), {}, 2) == ((), (1, 2), False)
    assert gated_seeds((1, 2, 3, 4, 5, 6), {1: None, 2: False}, 2) == ((), (3,), False)
    assert gated_seeds((1, 2, 3, 4, 5, 6), {1: True, 2: False, 3: True}, 2) == ((1, 3), (), True)
    assert gated_seeds((1, 2, 3, 4, 5, 6), dict.fromkeys(range(1, 7), False), 2) == ((), (), True)


# Ranking


def test_the_highest_mean_wins_and_ties_go_to_the_earlier_proposal() -> None:
    values = {2: [3.0, 1.0], 0: [1.0, 3.0], 1: [4.0, 4.0], 3: []}
    assert rank_proposals(values, "max") == [1, 0, 2]
    assert rank_proposals(values, "min") == [0, 2, 1]
    assert winner(values, "max") == 1


def test_a_proposal_that_was_confirmed_ranks_before_a_lucky_one() -> None:
    assert rank_proposals({0: [9.0, 9.0], 1: [5.0] * 5, 2: [6.0] * 5}, "max") == [2, 1, 0]


def test_nothing_to_rank_is_an_error() -> None:
    with pytest.raises(ValueError, match="no proposal has finished"):
        winner({0: []}, "max")
    with pytest.raises(ValueError, match="NaN"):
        rank_proposals({0: [float("nan")]}, "max")


@given(st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 50), min_size=2, max_size=2), min_size=1))
def test_both_directions_mirror_each_other(values: dict[int, list[int]]) -> None:
    negated = {proposal: [-value for value in of_proposal] for proposal, of_proposal in values.items()}
    ranked = rank_proposals(values, "max")
    assert ranked == rank_proposals(negated, "min")
    means = [statistics.fmean(values[proposal]) for proposal in ranked]
    assert means == sorted(means, reverse=True)


# Early stopping

RULE = EarlyStopping(rungs=(2, 4), keep=0.5, at_least=4)


def stops_among(value: float, rung: int, others: list[float], rule: EarlyStopping) -> bool:
    return should_stop(sum(other > value for other in others), len(others), rung, rule)


@pytest.mark.parametrize(
    ("value", "rung", "others", "stops"),
    [
        (3.0, 2, [1.0, 2.0, 4.0, 5.0], False),  # third of five; three are kept
        (2.5, 2, [1.0, 3.0, 4.0, 5.0], True),  # fourth of five
        (2.5, 3, [1.0, 3.0, 4.0, 5.0], False),  # no rung
        (0.0, 4, [3.0, 4.0, 5.0], False),  # too few others
        (1.0, 4, [1.0, 1.0, 1.0, 1.0], False),  # ties
    ],
)
def test_a_run_below_the_best_share_stops(value: float, rung: int, others: list[float], stops: bool) -> None:
    assert stops_among(value, rung, others, RULE) is stops


def test_without_a_rule_nothing_stops() -> None:
    assert not should_stop(9, 9, 2, None)


shares = st.floats(0.01, 0.99)
values_of_a_rung = st.lists(st.integers(0, 30).map(float), min_size=1, max_size=20)


@given(values_of_a_rung, shares)
def test_at_least_the_kept_share_goes_on_and_always_the_best(values: list[float], keep: float) -> None:
    rule = EarlyStopping(rungs=(2,), keep=keep, at_least=1)
    goes_on = [
        not stops_among(value, 2, values[:i] + values[i + 1 :], rule) for i, value in enumerate(values)
    ]
    assert sum(goes_on) >= keep * len(values) - 1e-6
    assert all(on for on, value in zip(goes_on, values, strict=True) if value == max(values))
    if len(set(values)) == len(values):
        assert sum(goes_on) < keep * len(values) + 1


@given(values_of_a_rung, shares, st.integers(0, 30), st.integers(0, 30))
def test_a_better_value_never_stops_where_a_worse_one_goes_on(
    others: list[float], keep: float, one: int, other: int
) -> None:
    rule = EarlyStopping(rungs=(2,), keep=keep, at_least=1)
    worse, better = sorted((one, other))
    if stops_among(better, 2, others, rule):
        assert stops_among(worse, 2, others, rule)


# The estimate


def pretrain_key(settings: Settings, seed: int) -> tuple[object, int]:
    return settings.get("acmnet.dropout"), seed


def test_a_finetune_search_shares_one_pretrained_model_a_seed(space: Space) -> None:
    assert estimate(space, Seeds(0), pretrain_key) == Estimate(
        proposals=24,
        search_trials=48,
        confirm_trials=9,
        ablation_trials=64,
        pretrains=2 + 3 + 8,
        gate_pretrains=0,
        gate_trials=0,
    )
    assert estimate(space, Seeds(0), pretrain_key).finetunes == 48 + 9 + 64


def test_an_arm_that_changes_pretraining_needs_models_of_its_own(space: Space) -> None:
    arms = {**space.ablation.arms, "no dropout": {"acmnet.dropout": 0.0}}
    wider = space.model_copy(update={"ablation": space.ablation.model_copy(update={"arms": arms})})
    assert estimate(wider, Seeds(0), pretrain_key).pretrains == 2 + 3 + 8 + 8


def test_a_searched_pretrain_parameter_gives_every_proposal_its_own(space: Space) -> None:
    parameters = {**space.search.parameters, "acmnet.dropout": FloatRange(float=(0.5, 0.8))}
    search = space.search.model_copy(update={"parameters": parameters})
    wider = space.model_copy(update={"search": search})
    assert estimate(wider, Seeds(0), pretrain_key).pretrains == 24 * 2 + 3 * 3 + 8


def test_a_study_without_a_search_has_the_ablation_alone(space: Space) -> None:
    expected = estimate(space.model_copy(update={"search": None}), Seeds(0), pretrain_key)
    assert (expected.proposals, expected.search_trials, expected.confirm_trials) == (0, 0, 0)
    assert (expected.pretrains, expected.finetunes) == (8, 64)


def test_a_gate_on_the_arms_themselves_may_run_all_of_them_three_times() -> None:
    expected = estimate(load_space("pretrain"), Seeds(0), lambda settings, seed: None)
    assert (expected.pretrains, expected.gate_pretrains) == (0, 0)
    assert (expected.ablation_trials, expected.gate_trials) == (40, 80)


def test_a_gate_may_need_three_times_the_seeds(space: Space) -> None:
    gated = space.model_copy(update={"gate": Gate(metric="mAP@0.1:0.7", at_least=30.0)})
    expected = estimate(gated, Seeds(0), pretrain_key)
    assert (expected.pretrains, expected.gate_pretrains, expected.gate_trials) == (13, 26, 64)
