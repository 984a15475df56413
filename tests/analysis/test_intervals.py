import math

import numpy as np
import pytest
from scipy import stats

from analysis.intervals import bca_interval, coverage_at, effect_size, t_interval

# Hours of extra sleep under two drugs, of ten patients: Student 1908, Biometrika 6 ("sleep" in R).
STUDENT = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)


def test_students_sleep() -> None:
    # t.test(paired = TRUE) in R: t = 4.0621, df = 9, interval 0.70 to 2.46, mean 1.58
    assert t_interval(STUDENT) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    effect = effect_size(STUDENT)
    assert effect.d_z == pytest.approx(4.0621 / math.sqrt(10), abs=1e-5)
    # J(9) = Γ(4.5) / (√4.5 Γ(4)) = 11.63173 / (2.12132 · 6) = 0.913875
    assert effect.g_z == pytest.approx(0.913875 * effect.d_z, rel=1e-6)


def test_the_interval_of_an_effect_is_the_one_whose_noncentral_t_has_it_in_its_tails() -> None:
    for differences in (STUDENT, [-value for value in STUDENT], np.random.default_rng(1).normal(0.1, 1, 8)):
        effect = effect_size(differences)
        root = math.sqrt(effect.n)
        t = effect.d_z * root
        assert effect.low < effect.d_z < effect.high
        assert stats.nct.cdf(t, effect.n - 1, effect.low * root) == pytest.approx(0.975, abs=1e-6)
        assert stats.nct.cdf(t, effect.n - 1, effect.high * root) == pytest.approx(0.025, abs=1e-6)


def test_the_correction_of_an_effect_is_that_of_its_expected_value() -> None:
    draws = np.random.default_rng(2).normal(1.0, 1, (4000, 5))
    sizes = [effect_size(draw) for draw in draws]
    # The mean of d_z is δ / J(4) = 1 / 0.7979; its sd is 0.75, so that of the mean of 4 000 is 0.012.
    assert np.mean([size.d_z for size in sizes]) == pytest.approx(1 / 0.797885, abs=0.04)
    assert np.mean([size.g_z for size in sizes]) == pytest.approx(1.0, abs=0.03)
    assert np.mean([size.low <= 1.0 <= size.high for size in sizes]) == pytest.approx(0.95, abs=0.012)


def test_bca_of_the_sleep_data() -> None:
    # Skewed to the right, so unlike t the interval reaches further up than down.
    low, high = bca_interval(STUDENT)
    assert (low, high) == bca_interval(STUDENT)
    assert high - 1.58 > 1.58 - low
    mirrored = bca_interval([-value for value in STUDENT])
    assert mirrored == pytest.approx((-high, -low), abs=0.05)


def test_bca_follows_its_definition() -> None:
    d = np.array(STUDENT)
    generator = np.random.default_rng(5)
    means = np.sort(d[generator.integers(0, 10, (100_000, 10))].mean(axis=1))
    bias = stats.norm.ppf(((means < d.mean()).mean() + (means <= d.mean()).mean()) / 2)
    others = (d.sum() - d) / 9
    spread = others.mean() - others
    acceleration = (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = bias + stats.norm.ppf([0.025, 0.975])
    expected = np.quantile(means, stats.norm.cdf(bias + z / (1 - acceleration * z)))
    assert bca_interval(d) == pytest.approx(expected, abs=0.04)


def test_bca_is_too_narrow_for_few_seeds_and_says_by_how_much() -> None:
    assert coverage_at(8, "t") == pytest.approx(0.95, abs=0.006)
    assert coverage_at(8, "bca") == pytest.approx(0.885, abs=0.02)
    measured = [coverage_at(n, "bca") for n in (2, 3, 5, 8, 20, 50)]
    assert measured == sorted(measured)
    for n in range(2, 60):
        assert coverage_at(n, "t") == pytest.approx(0.95, abs=0.02)
        assert coverage_at(n, "bca", "skewed") < coverage_at(n, "bca") < coverage_at(n, "t") + 0.005


def test_coverage_is_that_of_the_nearest_number_of_seeds_below() -> None:
    assert coverage_at(18, "bca") == coverage_at(15, "bca") != coverage_at(20, "bca")
    assert coverage_at(10_000, "t") == coverage_at(50, "t")
    assert math.isnan(coverage_at(1, "t"))


@pytest.mark.parametrize("interval", [t_interval, bca_interval])
def test_intervals_of_too_few_or_equal_values(interval: object) -> None:
    assert callable(interval)
    for values in ([], [1.0]):
        assert all(math.isnan(bound) for bound in interval(values))
    assert interval([0.5, 0.5, 0.5]) == (0.5, 0.5)
    low, high = interval([1.0, 2.0])
    assert low < 1.5 < high
    with pytest.raises(ValueError, match="finite numbers"):
        interval([1.0, math.nan])


def test_effects_of_too_few_or_equal_values() -> None:
    def numbers(*values: float) -> tuple[float, ...]:
        effect = effect_size(values)
        return effect.d_z, effect.g_z, effect.low, effect.high

    for none in ((), (1.0,), (0.0, 0.0, 0.0)):
        assert all(math.isnan(number) for number in numbers(*none))
    assert numbers(-0.1, -0.1, -0.1)[:2] == (-math.inf, -math.inf)
    # In floating point the differences 0.3 − 0.2, 0.2 − 0.1 are not quite equal.
    assert numbers(0.3 - 0.2, 0.2 - 0.1, 0.1)[0] == math.inf
    d_z, g_z, low, high = numbers(1.0, 2.0)
    assert d_z == pytest.approx(1.5 / math.sqrt(0.5))
    assert math.isnan(g_z)
    assert low < d_z < high
    with pytest.raises(ValueError, match="finite numbers"):
        effect_size([1.0, math.inf])
