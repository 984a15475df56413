"""How often the nominal 95 % intervals of a mean of n paired differences hold their true mean."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.intervals import bca_interval, effect_size, t_interval

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Floats]

SIZES: Final = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 50)
NUM_T: Final = 20_000
NUM_BCA: Final = 4_000
EFFECT: Final = 1.0  # true d_z, where the interval of the effect size is measured

# All have mean 0 and sd 1.
SHAPES: Final[Mapping[str, Draw]] = {
    "normal": lambda rng, num, n: rng.standard_normal((num, n)),
    "skewed": lambda rng, num, n: rng.exponential(1.0, (num, n)) - 1,
    "heavy-tailed": lambda rng, num, n: rng.standard_t(3, (num, n)) / np.sqrt(3),
}


class Coverage(NamedTuple):
    """The share of simulated studies whose interval holds the truth, with its standard error."""

    n: int
    interval: str
    differences: str
    coverage: float
    standard_error: float
    studies: int
    seed: int


def coverages(share: float) -> Iterator[Coverage]:
    """Yield a row per n, interval and shape; `share` of the full number of studies."""
    for n in SIZES:
        for index, shape in enumerate(SHAPES):
            seed = 1000 * n + index
            for interval in ("t", "bca"):
                yield coverage(
                    n, interval, shape, round(share * (NUM_T if interval == "t" else NUM_BCA)), seed
                )
        yield coverage(n, "effect size", "normal", round(share * NUM_T), 1000 * n + 9)


def coverage(n: int, interval: str, shape: str, num_studies: int, seed: int) -> Coverage:
    """Simulate studies of n differences and count the intervals that hold the true value."""
    draws = SHAPES[shape](np.random.default_rng(seed), num_studies, n)
    if interval == "effect size":
        truth = EFFECT
        bounds = [(size.low, size.high) for size in map(effect_size, draws + EFFECT)]
    else:
        truth = 0.0
        bounds = [t_interval(d) if interval == "t" else bca_interval(d) for d in draws]
    low, high = np.array(bounds).T
    held = float(((low <= truth) & (truth <= high)).mean())
    error = float(np.sqrt(held * (1 - held) / num_studies))
    return Coverage(n, interval, shape, round(held, 4), round(error, 4), num_studies, seed)
