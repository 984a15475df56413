"""Statistics of arms that share their seeds: paired differences, exact sign-flip tests, Holm's correction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Direction = Literal["max", "min"]

ALPHA: Final = 0.05
MAX_EXACT_N: Final = 20
NUM_RANDOM_FLIPS: Final = 99_999
_CHUNK: Final = 4096
_TIE: Final = 1e-9  # relative to the sum of absolute differences
_EQUAL: Final = 1e-12  # relative to the values compared


@dataclass(frozen=True)
class PairedDifference:
    """What n pairs say about a − b; a figure that n pairs cannot give is nan."""

    n: int
    mean: float
    sd: float  # of the differences, ddof = 1
    ci_low: float
    ci_high: float
    p: float
    p_is_exact: bool  # False: more than MAX_EXACT_N pairs, p is a seeded Monte-Carlo estimate
    wins: int  # pairs in which a is the better one


def paired_difference(
    values_a: ArrayLike, values_b: ArrayLike, *, direction: Direction = "max"
) -> PairedDifference:
    """Compare a with b over pairs: d = a − b.

    Mean of d, its sd, the paired-t interval mean ± t(0.975, n − 1) · sd / √n, and the two-sided sign-flip p.
    A difference within rounding of its two values counts as 0, neither won nor lost. Fewer than two pairs
    give neither interval nor p. `direction` says whether larger or smaller values are better.
    Raises ValueError unless both have one finite value per pair.
    """
    difference = paired_differences(values_a, values_b)
    n = len(difference)
    mean = float(difference.mean()) if n else np.nan
    sd = float(difference.std(ddof=1)) if n > 1 else np.nan
    margin = float(stdtrit(n - 1, 0.975)) * sd / np.sqrt(n) if n > 1 else np.nan
    return PairedDifference(
        n=n,
        mean=mean,
        sd=sd,
        ci_low=mean - margin,
        ci_high=mean + margin,
        p=sign_flip_p(difference) if n > 1 else np.nan,
        p_is_exact=n <= MAX_EXACT_N,
        wins=int((difference > 0).sum() if direction == "max" else (difference < 0).sum()),
    )


def paired_differences(values_a: ArrayLike, values_b: ArrayLike) -> NDArray[np.float64]:
    """Return a − b, pair by pair; one within rounding of its two values is 0.

    Raises ValueError unless both have one finite value per pair.
    """
    a, b = np.asarray(values_a, dtype=np.float64), np.asarray(values_b, dtype=np.float64)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"pairs need two rows of equal length, not shapes {a.shape} and {b.shape}")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("pairs need finite values; leave incomplete pairs out first")
    return np.where(np.isclose(a, b, rtol=_EQUAL, atol=0.0), 0.0, a - b)


def sign_flip_p(differences: ArrayLike) -> float:
    """Return the two-sided p of a mean of 0: the share of the 2^n sign flips with |Σ ± d| ≥ |Σ d|.

    It assumes that a difference without an effect is as likely to be +x as −x, as it is where both members of
    a pair are exchangeable; the skewed differences of benchmarks/statistics, of mean 0, break it.
    Exact up to n = 20, where no p is below 2^(1 − n). Beyond, from m seeded random flips, b of which reach
    |Σ d|: p = (b + 1) / (m + 1) (Phipson and Smyth 2010, doi:10.2202/1544-6115.1585).
    """
    d = np.asarray(differences, dtype=np.float64)
    threshold = abs(d.sum()) - _TIE * np.abs(d).sum()
    if len(d) > MAX_EXACT_N:
        return (_count_random_flips(d, threshold) + 1) / (NUM_RANDOM_FLIPS + 1)
    # Flipping all signs leaves |Σ| as it is, so the first sign can stay fixed.
    sums = d[:1]
    for value in d[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float((np.abs(sums) >= threshold).mean())


def _count_random_flips(d: NDArray[np.float64], threshold: float) -> int:
    generator = np.random.default_rng(0)
    count = 0
    for start in range(0, NUM_RANDOM_FLIPS, _CHUNK):
        shape = (min(_CHUNK, NUM_RANDOM_FLIPS - start), len(d))
        signs = 2.0 * generator.integers(0, 2, size=shape, dtype=np.int8) - 1.0
        count += int((np.abs(signs @ d) >= threshold).sum())
    return count


def smallest_p(n: int) -> float:
    """Return the least p that n pairs can give, 2^(1 − n) while it is exact; nan below two pairs."""
    if n < 2:
        return np.nan
    return 2.0 ** (1 - n) if n <= MAX_EXACT_N else 1 / (NUM_RANDOM_FLIPS + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values, in the order given: max over j ≤ i of min(1, (m − j + 1) · p_(j)).

    A nan (a comparison that could not be made) stays nan but counts in m, as it was planned: losing one
    comparison must not make the others look better. Source: Holm 1979, Scand. J. Statist. 6.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)  # nan last
    factors = np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return [float(value) for value in adjusted]
