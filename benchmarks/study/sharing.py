"""What shared pretraining saves in a study: `python -m benchmarks.study.sharing OUT`.

From the records alone. With sharing, every pretrained model is trained once; without, every trial that starts
from one would train its own, which costs what that model's one training has cost. Trials that were stopped
early or failed count with what they spent, for they too would have pretrained first.

Slot hours are what trials spent, whatever they ran on. GPU hours multiply them by the share of a GPU that the
stage holds in the space file, as if the same hours had been spent on GPUs; on records of a machine without a
GPU this is the ratio of another mix of the same times, not a measurement on GPUs.
"""

import argparse
import sys
from collections import defaultdict
from typing import Any

from benchmarks.study.finished import read_study
from study.spec import Space, load_space


def main() -> int:
    """Print the hours of one study with and without shared pretraining."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", help="the folder or URI of a study")
    parser.add_argument(
        "--space", help="whose shares of a GPU to take (default: the study's own, as shipped)"
    )
    arguments = parser.parse_args()
    manifest, trials = read_study(arguments.out)
    space = load_space(arguments.space or manifest["space"]["name"])
    for unit, weights in (
        ("slot hours", dict.fromkeys(space.stages, 1.0)),
        ("GPU hours at the shares of the space file", _shares(space)),
    ):
        shared, own = _hours(trials, weights, space.stages[-1])
        ratio = f"{own / shared:.2f} times less" if shared else "none"
        print(f"{unit}: {shared:.4f} with shared pretraining, {own:.4f} without: {ratio}")
    return 0


def _shares(space: Space) -> dict[str, float]:
    return {stage: space.resources_of(stage).gpus for stage in space.stages}


def _hours(trials: list[dict[str, Any]], weights: dict[str, float], last: str) -> tuple[float, float]:
    """Return the weighted hours of a study, and those if every trial of the last stage had pretrained."""
    pretraining: dict[str, float] = defaultdict(float)  # by what was pretrained
    finetuning = 0.0
    for row in trials:
        hours = row["wall_s"] * weights[row["stage"]] / 3600
        if row["stage"] == last:
            finetuning += hours
        else:
            pretraining[row["pretrain_key"]] += hours
    own = sum(pretraining[row["pretrain_key"]] for row in trials if row["stage"] == last)
    return finetuning + sum(pretraining.values()), finetuning + own


if __name__ == "__main__":
    sys.exit(main())
