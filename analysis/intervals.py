"""Intervals beside the paired t: BCa bootstrap, measured coverage, and effect sizes of paired differences."""

import csv
import functools
from dataclasses import dataclass
from importlib import resources
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, nctdtrinc, stdtrit

IntervalKind = Literal["t", "bca"]
Shape = Literal["normal", "skewed", "heavy-tailed"]

NUM_RESAMPLES: Final = 9_999
_COVERAGE: Final = "coverage.csv"
_CONSTANT: Final = 1e-9  # spread relative to the largest difference, below which it is rounding


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


@dataclass(frozen=True)
class EffectSize:
    """A mean of n paired differences in units of their standard deviation; nan where n does not allow it."""

    n: int
    d_z: float  # mean / sd
    g_z: float  # d_z without its bias upwards
    low: float  # 95 % interval of the population's effect
    high: float


def t_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the paired-t interval of the mean, mean ± t(n − 1) · sd / √n; nan for fewer than 2 values."""
    d = _finite(differences)
    if len(d) < 2:
        return Interval(np.nan, np.nan)
    margin = float(stdtrit(len(d) - 1, 0.5 + confidence / 2) * d.std(ddof=1) / np.sqrt(len(d)))
    return Interval(float(d.mean()) - margin, float(d.mean()) + margin)


def bca_interval(differences: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the bias-corrected and accelerated bootstrap interval of the mean; nan for fewer than 2 values.

    Too narrow for few values: print `coverage_at(n, "bca")` beside it. Seeded, so that the same values give
    the same interval; equal values give one without width, as the paired t does.
    Raises ValueError on values that are not finite.
    Source: Efron 1987, J. Am. Stat. Assoc. 82(397), doi:10.1080/01621459.1987.10478410; computed by scipy.
    """
    from scipy.stats import bootstrap  # slow to import, and seldom needed

    d = _finite(differences)
    if len(d) < 2:
        return Interval(np.nan, np.nan)
    if _is_constant(d):
        return Interval(float(d.mean()), float(d.mean()))
    result = bootstrap(
        (d,),
        np.mean,
        confidence_level=confidence,
        n_resamples=NUM_RESAMPLES,
        method="BCa",
        rng=np.random.default_rng(0),
    )
    return Interval(float(result.confidence_interval.low), float(result.confidence_interval.high))


def coverage_at(n: int, kind: IntervalKind, shape: Shape = "normal") -> float:
    """Return how often a nominal 95 % interval of n differences holds their true mean, as a share.

    Measured by `python -m benchmarks.statistics`, at the nearest n that is not above; nan below 2.
    `shape` is that of the simulated differences: "normal", "skewed" (exponential, the worst of ours) or
    "heavy-tailed" (Student's t with 3 degrees of freedom).
    """
    measured = [m for m in _coverages() if m[1:] == (kind, shape) and m[0] <= n]
    return _coverages()[max(measured)] if measured else np.nan


def measured_n(n: int) -> int:
    """Return the n of `coverage_at`: the nearest not above that was measured. n is at least 2."""
    return max(measured for measured, _, _ in _coverages() if measured <= n)


def effect_size(differences: ArrayLike) -> EffectSize:
    """Return Cohen's d_z = mean / sd of paired differences, Hedges's g_z = J · d_z, and their interval.

    J = Γ(ν/2) / (√(ν/2) · Γ((ν − 1)/2)) with ν = n − 1 makes d_z unbiased for normal differences; it needs
    3 of them. The interval is that of the population's effect: the values whose noncentral t of d_z · √n has
    it at 2.5 and at 97.5 %. It covers exactly for normal differences. d_z is not the d of two independent
    groups and must not be compared with it: the pairing has taken the spread between seeds out.
    All differences equal: the effect is infinite, without an interval; all 0: it is nan.
    Raises ValueError on values that are not finite.
    Source: Hedges 1981, J. Educ. Stat. 6(2), doi:10.3102/10769986006002107; Goulet-Pelletier and Cousineau
    2018, Quant. Meth. Psych. 14(4), doi:10.20982/tqmp.14.4.p242.
    """
    d = _finite(differences)
    n = len(d)
    if n < 2 or not d.any():
        return EffectSize(n, np.nan, np.nan, np.nan, np.nan)
    if _is_constant(d):
        infinite = float(np.copysign(np.inf, d[0]))
        return EffectSize(n, infinite, infinite if n > 2 else np.nan, np.nan, np.nan)
    d_z = float(d.mean() / d.std(ddof=1))
    t = d_z * np.sqrt(n)
    low, high = (float(nctdtrinc(n - 1, p, t)) / np.sqrt(n) for p in (0.975, 0.025))
    return EffectSize(n, d_z, _unbiased(n) * d_z, float(low), float(high))


def _unbiased(n: int) -> float:
    if n < 3:
        return np.nan
    half = (n - 1) / 2
    return float(np.exp(gammaln(half) - gammaln(half - 0.5)) / np.sqrt(half))


def _finite(differences: ArrayLike) -> NDArray[np.float64]:
    d = np.asarray(differences, dtype=np.float64)
    if d.ndim != 1 or not np.isfinite(d).all():
        raise ValueError("differences must be one row of finite numbers; leave incomplete pairs out first")
    return d


def _is_constant(d: NDArray[np.float64]) -> bool:
    return bool(np.ptp(d) <= _CONSTANT * np.abs(d).max())


@functools.cache
def _coverages() -> dict[tuple[int, str, str], float]:
    text = resources.files("analysis").joinpath(_COVERAGE).read_text()
    return {
        (int(row["n"]), row["interval"], row["differences"]): float(row["coverage"])
        for row in csv.DictReader(text.splitlines())
    }
