"""Whether a search loses by the bound on what its sampler sees: `python -m benchmarks.scale.search_quality`.

The same search, of the six parameters of the space fsd_lcs, with the bound of study.search, without any, and
at random; on functions of known shape and on a smooth model of recorded trials. All arms have the same seeds;
the bounded search proposes what the unbounded one does until the bound bites. Written is the least value so
far.
"""

import argparse
import csv
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import optuna
from scipy.stats import t as student_t
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from benchmarks.scale.curves import Curves, to_unit
from study.search import LATEST, Proposals
from study.spec import Space, load_space

HERE: Final = Path(__file__).parent
UNBOUNDED: Final = 10**9
_CHECKPOINTS: Final = (100, 200, 300, 400, 500, 600, 800, 1000, 1500, 2000, 2500, 3000, 4000, 5000)
_Function = Callable[[np.ndarray], float]

# Coefficients of the Hartmann function of six variables.
_A: Final = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P: Final = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)
_ALPHA: Final = np.array([1.0, 1.2, 3.0, 3.2])


def _hartmann(x: np.ndarray) -> float:
    return float(-_ALPHA @ np.exp(-(_A * (x - _P) ** 2).sum(axis=1)))


def _ackley(x: np.ndarray) -> float:
    z = 20 * (x - 0.37)
    return float(
        -20 * np.exp(-0.2 * np.sqrt((z**2).mean())) - np.exp(np.cos(2 * np.pi * z).mean()) + 20 + np.e
    )


def _rosenbrock(x: np.ndarray) -> float:
    z = 4 * x - 2
    return float((100 * (z[1:] - z[:-1] ** 2) ** 2 + (1 - z[:-1]) ** 2).sum())


def _recorded(space: Space) -> _Function:
    """Return minus the expected objective of settings, by a Gaussian process of recorded proposals."""
    curves = Curves.load()
    settings = np.array([to_unit(space, curves.settings[curve.proposal]) for curve in curves.finetune])
    scores = np.array([max(curve.objective) for curve in curves.finetune])
    seeds = np.array([curve.seed for curve in curves.finetune])
    values = scores - np.array([scores[seeds == seed].mean() for seed in seeds])
    warnings.simplefilter("ignore")  # a setting that matters little has no length scale
    kernel = ConstantKernel(1.0) * RBF(np.ones(settings.shape[1]), (0.1, 10)) + WhiteKernel(0.1)
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(settings, values)
    return lambda x: -float(model.predict(x[None])[0])


def functions(space: Space) -> dict[str, _Function]:
    """Return what is minimised, by name."""
    return {
        "hartmann": _hartmann,
        "ackley": _ackley,
        "rosenbrock": _rosenbrock,
        "recorded": _recorded(space),
    }


def search(name: str, sampler: str, latest: int, seed: int, trials: int) -> list[float]:
    """Return the best value after each of some proposals."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = load_space("fsd_lcs")
    function = functions(space)[name]
    spec = space.search.model_copy(
        update={"sampler": space.search.sampler.model_copy(update={"name": sampler})}
    )
    proposals = Proposals(
        optuna.storages.InMemoryStorage(),
        "quality",
        spec,
        space.active,
        direction="min",
        seed=seed,
        defaults=space.defaults("watch"),
        latest=latest,
    )
    values = []
    for _ in range(trials):
        number = proposals.ask()
        value = function(to_unit(space, proposals.settings[number]))
        proposals.tell(number, value, {})
        values.append(value)
    return [float(best) for best in np.minimum.accumulate(values)]


def summary(path: Path) -> str:
    """Return what the bound costs: the paired differences of the least values, in a Markdown table.

    Positive: the bounded search has found less. The interval is Student's, of the mean over the seeds.
    """
    best: dict[tuple[str, int], dict[str, dict[int, float]]] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            arm = "random" if row["sampler"] == "random" else row["latest"]
            of = best.setdefault((row["function"], int(row["proposals"])), {})
            of.setdefault(arm, {})[int(row["seed"])] = float(row["best"])
    lines = [
        "| function | proposals | seeds | at random | unbounded | bounded | bounded − unbounded, 95 % |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for (function, proposals), arms in best.items():
        for bound in (arm for arm in arms if arm not in ("random", "all")):
            seeds = sorted(set(arms[bound]) & set(arms.get("all", {})))
            if len(seeds) < 3:
                continue
            values = {arm: np.array([arms[arm][seed] for seed in seeds]) for arm in (bound, "all")}
            by_chance = np.mean(list(arms.get("random", {}).values()) or [np.nan])
            difference = values[bound] - values["all"]
            margin = float(student_t.ppf(0.975, len(seeds) - 1)) * difference.std(ddof=1) / len(seeds) ** 0.5
            lines.append(
                f"| {function}, the latest {bound} | {proposals} | {len(seeds)} "
                f"| {by_chance:.3f} | {values['all'].mean():.3f} | {values[bound].mean():.3f} "
                f"| {difference.mean():+.3f} ± {margin:.3f} |"
            )
    return "\n".join(lines)


def main() -> int:
    """Search, and write the best values so far."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--latest", type=int, nargs="*", default=[LATEST, UNBOUNDED])
    parser.add_argument("--functions", nargs="*", default=["recorded", "hartmann", "rosenbrock"])
    parser.add_argument("--no-random", action="store_true", help="leave the random search out")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "search_quality.csv")
    parser.add_argument("--summary", action="store_true", help="of what --out holds; search nothing")
    arguments = parser.parse_args()
    if arguments.summary:
        print(summary(arguments.out))
        return 0
    arms = [("tpe", latest) for latest in arguments.latest]
    if not arguments.no_random:
        arms.insert(0, ("random", UNBOUNDED))
    # All arms of a seed together, so that what there is at any moment is paired.
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    runs = [(name, *arm, seed) for seed, name, arm in product(seeds, arguments.functions, arms)]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with (
        arguments.out.open("w", newline="") as file,
        ProcessPoolExecutor(arguments.processes) as pool,
    ):
        table = csv.writer(file)
        table.writerow(["function", "sampler", "latest", "seed", "proposals", "best"])
        futures = [pool.submit(search, *run, arguments.trials) for run in runs]
        for (name, sampler, latest, seed), future in zip(runs, futures, strict=True):
            best = future.result()
            seen = "all" if latest == UNBOUNDED else latest
            for count in (count for count in _CHECKPOINTS if count <= arguments.trials):
                table.writerow([name, sampler, seen, seed, count, f"{best[count - 1]:.6g}"])
            file.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
