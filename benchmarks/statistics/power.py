"""Whether the seeds that `analysis.power` asks for give the power that it promises."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from analysis.power import POWER, seeds_for, t_power
from analysis.statistics import ALPHA, holm, sign_flip_p

NUM_STUDIES: Final = 4_000
EFFECTS: Final = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
FAMILIES: Final = (1, 3, 6)  # comparisons that Holm corrects


class Power(NamedTuple):
    """Shares of simulated studies in which a true effect is shown."""

    effect: float  # d_z, of normal differences
    comparisons: int
    seeds: int  # what seeds_for asks for
    power: float  # of one comparison's sign-flip test at 0.05 / comparisons
    standard_error: float
    one_seed_less: float
    t_power: float  # what the paired t test would have
    holm: float  # of a comparison of a family in which all have the effect
    studies: int
    random_seed: int


def powers(share: float) -> Iterator[Power]:
    """Yield a row per effect and size of family; `share` of the full number of studies."""
    for comparisons in FAMILIES:
        for effect in EFFECTS:
            yield simulate(effect, comparisons, round(share * NUM_STUDIES), round(100 * effect) + comparisons)


def simulate(effect: float, comparisons: int, num_studies: int, random_seed: int) -> Power:
    """Simulate families of comparisons with one true effect, at the number of seeds asked for."""
    alpha = ALPHA / comparisons
    n = seeds_for(effect, alpha)
    assert n is not None
    rng = np.random.default_rng(random_seed)
    num_families = -(-num_studies // comparisons)
    # Comparisons with one baseline share half of their variance.
    noise = rng.standard_normal((num_families, comparisons, n)) + rng.standard_normal((num_families, 1, n))
    differences = effect + noise / np.sqrt(2)
    p = np.array([[sign_flip_p(d) for d in family] for family in differences])
    fewer = np.array([[sign_flip_p(d[:-1]) for d in family] for family in differences])
    adjusted = np.array([holm(family) for family in p.tolist()])
    power = float((p < alpha).mean())
    return Power(
        effect=effect,
        comparisons=comparisons,
        seeds=n,
        power=round(power, 4),
        standard_error=round(float(np.sqrt(POWER * (1 - POWER) / p.size)), 4),
        one_seed_less=round(float((fewer < alpha).mean()), 4),
        t_power=round(t_power(n, effect, alpha), 4),
        holm=round(float((adjusted < ALPHA).mean()), 4),
        studies=p.size,
        random_seed=random_seed,
    )
