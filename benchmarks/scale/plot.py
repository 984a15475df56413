"""The figure of docs/scale.md, from the results: `python -m benchmarks.scale.plot`."""

import csv
import sys
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Final

import matplotlib as mpl

mpl.use("Agg")


import matplotlib.pyplot as plt

RESULTS: Final = Path(__file__).parent / "results"
IMAGE: Final = Path(__file__).parents[2] / "docs" / "images" / "scale.svg"
_MAIN: Final = "flush of 1 ms, Tune 3.5 ms"
_IDLE: Final = {
    "idle_driver": ("waits for the driver", "#c0392b"),
    "idle_work": ("waits for a pretraining or the end of a phase", "#e0b050"),
    "node_missing": ("its node is not there", "#b0b8c0"),
}


def _read(name: str) -> list[dict[str, str]]:
    with (RESULTS / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def main() -> int:
    """Draw what a trial costs the driver as a study grows, and what GPUs wait for."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4))
    growth: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for row in _read("growth.csv"):
        if int(row["gpus"]) == 1000 and int(row["trials"]) >= 50000:
            label = f"{int(row['trials']):,} trials, {row['variant']}"
            growth[label].append((int(row["ended"]), float(row["driver_s"])))
    for label, points in growth.items():
        steps = [
            (ended, 1e3 * (spent - spent_before) / (ended - ended_before))
            for (ended_before, spent_before), (ended, spent) in pairwise(points)
            if ended > ended_before
        ]
        left.plot(*zip(*steps, strict=True), label=label, linewidth=1.2)
    left.set(xlabel="trials that have ended", ylabel="driver, ms a trial", title="1 000 GPUs", ylim=(0, None))
    left.legend(fontsize=8, frameon=False)
    runs = [row for row in _read("simulation.csv") if row["variant"] == _MAIN]
    runs.sort(key=lambda row: (int(row["gpus"]), int(row["trials"])))
    names = [f"{int(row['gpus']):,}\n{int(row['trials']):,}" for row in runs]
    below = [0.0] * len(runs)
    for column, (label, colour) in _IDLE.items():
        # Shares of all slots' time; the first two are recorded as shares of the time with a node.
        shares = [
            100 * float(row[column]) * (1.0 if column == "node_missing" else 1 - float(row["node_missing"]))
            for row in runs
        ]
        right.bar(names, shares, bottom=below, label=label, color=colour)
        below = [one + other for one, other in zip(below, shares, strict=True)]
    right.set(ylabel="% of the GPUs' time", title="what GPUs wait for, with Tune 3.5 ms", ylim=(0, 130))
    right.set(xlabel="GPUs, and below them trials")
    right.tick_params(axis="x", labelsize=7)
    right.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(IMAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
