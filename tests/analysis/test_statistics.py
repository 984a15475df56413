import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from analysis.statistics import MAX_EXACT_N, holm, paired_difference, sign_flip_p, smallest_p


@pytest.mark.parametrize("n", [2, 3, 8, 25])
def test_mean_sd_and_interval_are_those_of_the_paired_t_test(n: int) -> None:
    a, b = np.random.default_rng(n).normal(40, 6, (2, n))
    result = paired_difference(a, b)
    expected = stats.ttest_rel(a, b).confidence_interval(0.95)
    assert result.n == n
    assert result.mean == pytest.approx((a - b).mean(), rel=1e-12)
    assert result.sd == pytest.approx(np.std(a - b, ddof=1), rel=1e-12)
    assert (result.ci_low, result.ci_high) == pytest.approx((expected.low, expected.high), rel=1e-9)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_p_is_that_of_every_sign_flip(n: int) -> None:
    for seed in range(5):
        d = np.random.default_rng(seed).normal(0.5, 1, n)
        expected = stats.permutation_test(
            (d, np.zeros(n)),
            lambda x, y, axis: np.mean(x - y, axis=axis),
            permutation_type="samples",
            vectorized=True,
            n_resamples=np.inf,
        )
        assert sign_flip_p(d) == pytest.approx(expected.pvalue, rel=1e-12)


def test_fishers_analysis_of_darwins_maize() -> None:
    # Crossed against self-fertilised plants, in eighths of an inch; Fisher 1935, The Design of Experiments,
    # § 21: 863 of the 2^15 sums reach 314, and as many −314, p = 5.267 %; by t = 2.148 p = 4.970 %.
    differences = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    result = paired_difference(differences, np.zeros(15))
    assert sum(differences) == 314
    assert result.p == 2 * 863 / 2**15
    assert result.mean / (result.sd / math.sqrt(15)) == pytest.approx(2.148, abs=5e-4)


def test_p_of_one_sided_differences_is_the_floor_up_to_the_largest_exact_n() -> None:
    for n in (2, 6, MAX_EXACT_N):
        result = paired_difference(np.linspace(1, 2, n), np.zeros(n))
        assert result.p == smallest_p(n) == 2.0 ** (1 - n)
        assert result.p_is_exact


def test_p_beyond_the_exact_range_is_estimated_reproducibly_and_never_zero() -> None:
    d = np.random.default_rng(0).normal(0.3, 1, MAX_EXACT_N + 5)
    first, second = (paired_difference(d, np.zeros_like(d)) for _ in range(2))
    assert first == second
    assert not first.p_is_exact
    assert first.p == pytest.approx(stats.ttest_1samp(d, 0).pvalue, abs=0.02)
    assert sign_flip_p(np.ones(60)) == smallest_p(60) == 1e-5


def test_flips_that_tie_but_for_rounding_count() -> None:
    # In tenths 3 −1 −2 5, sum 5. With the 5 kept positive, ±3 ±1 ±2 is 6 4 2 0 0 −2 −4 −6: five of 8 reach 5,
    # two of them only by an exact 0, which floating point misses.
    assert sign_flip_p([0.3, -0.1, -0.2, 0.5]) == 5 / 8
    assert sign_flip_p([0.1, 0.2, -0.3]) == 1.0


def test_equal_values_are_neither_won_nor_lost() -> None:
    result = paired_difference([0.1 + 0.2, 1.0, 5.0], [0.3, 1.0, 5.0])
    assert (result.mean, result.sd, result.ci_low, result.ci_high) == (0, 0, 0, 0)
    assert (result.p, result.wins) == (1.0, 0)


def test_wins_follow_the_direction_of_the_metric() -> None:
    a, b = [3.0, 1.0, 4.0], [2.0, 2.0, 3.0]
    assert paired_difference(a, b).wins == 2
    assert paired_difference(a, b, direction="min").wins == 1


def test_too_few_pairs_give_neither_interval_nor_p() -> None:
    none, one = paired_difference([], []), paired_difference([3.0], [1.0])
    assert (none.n, none.wins) == (0, 0)
    assert math.isnan(none.mean)
    assert (one.n, one.mean, one.wins) == (1, 2.0, 1)
    for result in (none, one):
        assert all(math.isnan(value) for value in (result.sd, result.ci_low, result.ci_high, result.p))


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([1.0, np.nan], [1.0, 2.0])])
def test_pairs_that_are_none_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs need"):
        paired_difference(a, b)


def test_holm_by_hand() -> None:
    # sorted 0.005 0.01 0.03 0.04, times 4 3 2 1 = 0.02 0.03 0.06 0.04, running maximum 0.02 0.03 0.06 0.06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_is_that_of_statsmodels() -> None:
    generator = np.random.default_rng(4)
    for size in (1, 2, 5, 12):
        p = np.round(generator.uniform(0, 0.2, size), 2)  # with ties
        assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1].tolist())


def test_holm_counts_a_comparison_that_could_not_be_made() -> None:
    first, lost, third = holm([0.01, math.nan, 0.02])
    assert (first, third) == pytest.approx((0.03, 0.04))
    assert math.isnan(lost)


def test_without_an_effect_a_family_is_called_different_in_at_most_5_percent_of_studies() -> None:
    # 1 000 studies of 8 seeds and 3 arms; skewed seeds, arms and baseline exchangeable.
    generator = np.random.default_rng(7)
    num_studies = 1000
    values = generator.gamma(2.0, 3.0, (num_studies, 8, 1)) + generator.exponential(1.0, (num_studies, 8, 4))
    rejected = covered = 0
    for study in values:
        results = [paired_difference(study[:, arm], study[:, 3]) for arm in range(3)]
        rejected += min(holm([result.p for result in results])) < 0.05
        covered += sum(result.ci_low <= 0 <= result.ci_high for result in results)
    assert 0 < rejected / num_studies <= 0.05
    assert 0.93 <= covered / (3 * num_studies) <= 0.97


def test_a_true_effect_in_one_arm_makes_no_other_arm_look_different() -> None:
    # 1 000 studies, of which Holm may call one of the two arms without an effect different in 5 %.
    generator = np.random.default_rng(11)
    num_studies = 1000
    values = generator.gamma(2.0, 3.0, (num_studies, 8, 1)) + generator.normal(0, 1, (num_studies, 8, 4))
    values[:, :, 0] += 3.0
    wrong = found = 0
    for study in values:
        adjusted = holm([paired_difference(study[:, arm], study[:, 3]).p for arm in range(3)])
        found += adjusted[0] < 0.05
        wrong += min(adjusted[1:]) < 0.05
    assert found / num_studies > 0.8
    assert wrong / num_studies <= 0.05
