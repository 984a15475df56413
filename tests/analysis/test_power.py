import math

import numpy as np
import pytest
from statsmodels.stats.power import TTestPower

from analysis.intervals import effect_size
from analysis.power import least_seeds, seeds_for, seeds_needed, t_power
from analysis.statistics import sign_flip_p


def test_textbook_power_of_the_paired_t_test() -> None:
    # G*Power's manual and Cohen 1988: d_z = 0.5 needs 34 pairs for 80 % power at 0.05; 33.4 exactly.
    assert t_power(33, 0.5) < 0.8 <= t_power(34, 0.5)
    assert t_power(34, 0.5) == pytest.approx(0.8077775, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 3])
@pytest.mark.parametrize("effect", [0.3, 0.8, 1.5, -2.0])
def test_power_is_that_of_statsmodels(effect: float, alpha: float) -> None:
    for n in (3, 8, 12):
        expected = TTestPower().power(abs(effect), n, alpha)
        assert t_power(n, effect, alpha) == pytest.approx(expected, abs=1e-6)
    needed = TTestPower().solve_power(abs(effect), alpha=alpha, power=0.8)
    assert seeds_for(effect, alpha) == max(math.ceil(float(needed)) + 1, least_seeds(alpha))


def test_no_fewer_seeds_than_a_sign_flip_test_can_use() -> None:
    # 2^(1 − n) < α
    assert [least_seeds(0.05 / m) for m in (1, 2, 3, 6)] == [6, 7, 7, 8]
    assert seeds_for(10.0, 0.05 / 3) == seeds_for(math.inf, 0.05 / 3) == 7
    # With 6 seeds all must have one sign: Φ(1.75)^6 = 0.78, Φ(1.85)^6 = 0.82
    assert (seeds_for(1.75), seeds_for(1.85)) == (7, 6)


@pytest.mark.parametrize(("effect", "alpha"), [(1.0, 0.05), (1.5, 0.05 / 3), (1.75, 0.05), (2.0, 0.05 / 6)])
def test_the_seeds_asked_for_give_the_power(effect: float, alpha: float) -> None:
    n = seeds_for(effect, alpha)
    assert n is not None
    draws = np.random.default_rng(3).normal(effect, 1, (1500, n))
    power = np.mean([sign_flip_p(d) < alpha for d in draws])
    assert power > 0.775  # the standard error is 0.01
    # Where p has few steps, a seed more or less changes the power by much.
    assert power < 0.93 or n <= least_seeds(alpha) + 1


def test_at_most_about_one_seed_above_the_least() -> None:
    # 12 have 82 % of the power already, by the simulation below, and 11 too little.
    assert seeds_for(0.9) == 13
    draws = np.random.default_rng(5).normal(0.9, 1, (3000, 12))
    assert np.mean([sign_flip_p(d) < 0.05 for d in draws]) > 0.8
    assert np.mean([sign_flip_p(d[:11]) < 0.05 for d in draws]) < 0.8


def test_seeds_needed_rests_on_the_unbiased_effect_and_tells_how_uncertain_it_is() -> None:
    differences = [1.2, -0.4, 2.1, 0.3, 1.0, 1.9, -0.2, 0.7]
    effect = effect_size(differences)
    needed = seeds_needed(differences, 0.05 / 3)
    assert needed.n == seeds_for(effect.g_z, 0.05 / 3)
    assert needed.low == seeds_for(effect.high, 0.05 / 3)
    assert needed.high == seeds_for(effect.low, 0.05 / 3)
    assert needed.low < needed.n < needed.high
    assert seeds_needed([-d for d in differences], 0.05 / 3) == needed
    assert seeds_needed(differences, 0.05, 0.9).n > seeds_needed(differences, 0.05, 0.8).n


def test_an_effect_that_may_be_0_may_need_any_number() -> None:
    needed = seeds_needed([1.0, -1.0, 0.5, -0.4, 0.2])
    assert needed.n is not None
    assert needed.high is None


@pytest.mark.parametrize("differences", [[], [1.0], [1.0, 2.0], [0.0, 0.0, 0.0]])
def test_without_an_effect_to_go_by_there_is_no_number(differences: list[float]) -> None:
    assert seeds_needed(differences) == seeds_needed([])
    assert seeds_needed(differences).n is None


def test_equal_differences_need_as_many_as_any_p_does() -> None:
    assert seeds_needed([0.5, 0.5, 0.5]).n == 6


def test_a_hopeless_effect_has_no_number() -> None:
    assert seeds_for(0.001) is None
    assert seeds_for(math.nan) is None
    with pytest.raises(ValueError, match="finite numbers"):
        seeds_needed([1.0, math.nan, 2.0])
