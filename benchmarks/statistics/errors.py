"""How often an ablation without an effect is said to show one, and how often its intervals hold the truth."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.statistics import ALPHA, PairedDifference, holm, paired_difference

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int, int]], Floats]

NUM_STUDIES: Final = 10_000
NUM_ARMS: Final = 3  # beside the baseline
SIZES: Final = (5, 8, 12)
EFFECT: Final = 1.5  # of the first arm in "one true effect", in sd of a difference
FAILURES: Final = 0.2  # share of runs without a result in "failed runs"


def _seeds(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Return what all arms of a seed share: skewed and larger than the noise, as pretrained models are."""
    return rng.gamma(2.0, 3.0, (shape[0], shape[1], 1))


def _failed(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    values = _seeds(rng, shape) + rng.standard_normal(shape)
    return np.where(rng.random(shape) < FAILURES, np.nan, values)


def _one_effect(rng: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    values = _seeds(rng, shape) + rng.standard_normal(shape)
    values[..., 0] += EFFECT * np.sqrt(2)
    return values


# Studies x seeds x arms, the baseline last; apart from "one true effect" all arms have the same mean.
SCENARIOS: Final[Mapping[str, Draw]] = {
    "normal noise": lambda rng, shape: _seeds(rng, shape) + rng.standard_normal(shape),
    "skewed noise": lambda rng, shape: _seeds(rng, shape) + rng.exponential(1.0, shape),
    "heavy-tailed noise": lambda rng, shape: _seeds(rng, shape) + rng.standard_t(3, shape),
    "arms of unlike spread": lambda rng, shape: (
        _seeds(rng, shape) + rng.standard_normal(shape) * np.array([3.0, 2.0, 1.0, 0.5])
    ),
    "failed runs": _failed,
    "one true effect": _one_effect,
    # Breaks what the tests assume, that a difference without an effect is symmetric about 0.
    "skewed differences": lambda rng, shape: (
        _seeds(rng, shape) + (rng.exponential(1.0, shape) - 1) * np.array([1.0, 1.0, 1.0, 0.0])
    ),
}


class Errors(NamedTuple):
    """Shares of simulated studies, of three arms against one baseline."""

    scenario: str
    seeds: int
    uncorrected: float  # with a p below 0.05 in an arm without an effect
    holm: float  # with a Holm p below 0.05 in one
    shown: float  # with one that is called better or worse: its interval excludes 0 too
    standard_error: float  # of the last
    coverage: float  # of the paired-t intervals, over all arms
    studies: int
    random_seed: int


def errors(share: float) -> Iterator[Errors]:
    """Yield a row per scenario and number of seeds; `share` of the full number of studies."""
    for index, scenario in enumerate(SCENARIOS):
        for n in SIZES:
            yield simulate(scenario, n, round(share * NUM_STUDIES), 100 * index + n)


def simulate(scenario: str, n: int, num_studies: int, random_seed: int) -> Errors:
    """Simulate studies and judge each as an ablation table does."""
    values = SCENARIOS[scenario](np.random.default_rng(random_seed), (num_studies, n, NUM_ARMS + 1))
    truth = np.zeros(NUM_ARMS)
    if scenario == "one true effect":
        truth[0] = EFFECT * np.sqrt(2)
    counts, held, num_intervals = np.zeros(3), 0, 0
    for study in values:
        results = [_compare(study[:, arm], study[:, -1]) for arm in range(NUM_ARMS)]
        adjusted = holm([result.p for result in results])
        null = truth == 0
        excludes_0 = np.array([result.ci_low > 0 or result.ci_high < 0 for result in results])
        counts += (
            any(result.p < ALPHA for result, is_null in zip(results, null, strict=True) if is_null),
            bool((null & (np.array(adjusted) < ALPHA)).any()),
            bool((null & excludes_0 & (np.array(adjusted) < ALPHA)).any()),
        )
        num_intervals += sum(result.n > 1 for result in results)
        held += sum(r.ci_low <= effect <= r.ci_high for r, effect in zip(results, truth, strict=True))
    uncorrected, corrected, shown = (float(rate) for rate in counts / num_studies)
    return Errors(
        scenario=scenario,
        seeds=n,
        uncorrected=uncorrected,
        holm=corrected,
        shown=shown,
        standard_error=round(float(np.sqrt(shown * (1 - shown) / num_studies)), 4),
        coverage=round(held / num_intervals, 4),
        studies=num_studies,
        random_seed=random_seed,
    )


def _compare(values: Floats, baseline: Floats) -> PairedDifference:
    paired = np.isfinite(values) & np.isfinite(baseline)
    return paired_difference(values[paired], baseline[paired])
