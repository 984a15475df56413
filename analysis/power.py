"""How many seeds an effect would need to be shown."""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import nctdtr, ndtr, ndtri, stdtrit

from analysis.intervals import effect_size
from analysis.statistics import ALPHA, smallest_p

POWER: Final = 0.8
MAX_SEEDS: Final = 100_000
MOST_TOLD: Final = 100  # seeds; a larger number would be read for more than such an effect can tell


@dataclass(frozen=True)
class SeedsNeeded:
    """Seeds for the wanted power if the true effect is the observed one, or an end of its 95 % interval.

    None: no effect to go by (fewer than 3 differences, or all 0), or more than MAX_SEEDS.
    """

    n: int | None
    low: int | None  # if the effect is as large as the interval allows
    high: int | None  # if it is as small as the interval allows; None if that includes 0


def seeds_needed(differences: ArrayLike, alpha: float = ALPHA, power: float = POWER) -> SeedsNeeded:
    """Return how many paired seeds would show the effect of some differences at level `alpha`, two-sided.

    The effect is Hedges's g_z, as d_z of few seeds is too large. `alpha` is the level of one comparison: for
    m that Holm corrects, ALPHA / m is the strictest step, so that the power holds whatever the others give.
    An estimate for planning the next study: few seeds tell an effect badly, hence `low` and `high`; and as it
    follows from the same numbers as p it says nothing more about these differences (Hoenig and Heisey 2001,
    Am. Stat. 55(1), doi:10.1198/000313001300339897). Raises ValueError on values that are not finite.
    """
    effect = effect_size(differences)
    if np.isnan(effect.g_z):
        return SeedsNeeded(None, None, None)
    ends = sorted((abs(effect.low), abs(effect.high)))  # nan where there is no interval
    includes_0 = effect.low <= 0 <= effect.high
    return SeedsNeeded(
        seeds_for(effect.g_z, alpha, power),
        seeds_for(ends[1], alpha, power),
        None if includes_0 else seeds_for(ends[0], alpha, power),
    )


def seeds_for(effect: float, alpha: float = ALPHA, power: float = POWER) -> int | None:
    """Return how many seeds give the sign-flip test of a true effect d_z the power; None: too many.

    At most about one above the least n: one more than the paired t test needs, as p of a sign-flip test moves
    in steps of 2^(1 − n), which costs it up to one seed, though not at every n. Never fewer than
    `least_seeds`, where it needs all differences to have one sign, a power of Φ(d_z)^n. For normal
    differences; simulated in benchmarks/statistics.
    """
    if not abs(effect) > 0:
        return None
    least = least_seeds(alpha)
    if math.isinf(effect):
        return least
    # The normal test needs the fewest; the t test a few more.
    n = max(2, math.floor(((ndtri(1 - alpha / 2) + ndtri(power)) / effect) ** 2))
    while n < MAX_SEEDS and t_power(n, effect, alpha) < power:
        n += 1
    if n >= MAX_SEEDS:
        return None
    return least + 1 if n < least and ndtr(abs(effect)) ** least < power else max(n + 1, least)


def t_power(n: int, effect: float, alpha: float = ALPHA) -> float:
    """Return the power of the two-sided paired t test of n normal differences with a true effect d_z.

    P(|T| > t(1 − α/2, n − 1)) for T of a noncentral t with n − 1 degrees of freedom, noncentrality d_z · √n.
    """
    critical = stdtrit(n - 1, 1 - alpha / 2)
    shift = abs(effect) * math.sqrt(n)
    # scipy gives nan far out in a tail, where nothing is left of it.
    below, far = np.nan_to_num([nctdtr(n - 1, shift, critical), nctdtr(n - 1, shift, -critical)])
    return float(1 - below + far)


def least_seeds(alpha: float = ALPHA) -> int:
    """Return the least n at which any p of the sign-flip test lies below `alpha`: 2^(1 − n) < α."""
    n = 2
    while smallest_p(n) >= alpha:
        n += 1
    return n
