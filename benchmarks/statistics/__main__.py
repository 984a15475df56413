"""Measure all that `analysis` states about its statistics, and write it down.

    python -m benchmarks.statistics [--share S] [--only NAME]

writes results/*.csv beside this file and the table that `analysis.intervals.coverage_at` reads. Every row
names its seed and its number of simulated studies. `--share` below 1 runs less of each and writes nothing.
"""

import argparse
import csv
import platform
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import scipy

from benchmarks.statistics.coverage import coverages
from benchmarks.statistics.errors import errors
from benchmarks.statistics.power import powers

ROOT: Final = Path(__file__).parents[2]
RESULTS: Final = Path(__file__).parent / "results"
SHIPPED: Final = ROOT / "analysis" / "coverage.csv"

MEASUREMENTS: Final[Mapping[str, Callable[[float], Iterable[Any]]]] = {
    "coverage": coverages,
    "errors": errors,
    "power": powers,
}


def main() -> int:
    """Run the simulations; returns 0."""
    parser = argparse.ArgumentParser(description="Simulate studies to check the statistics.")
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of studies")
    parser.add_argument("--only", choices=MEASUREMENTS, help="one of the measurements")
    options = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, one process; "
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}"
    )
    for name in [options.only] if options.only else MEASUREMENTS:
        started_s = time.perf_counter()
        rows = []
        for row in MEASUREMENTS[name](options.share):
            rows.append(row._asdict())
            print(name, *(f"{key}={value}" for key, value in rows[-1].items()), flush=True)
        print(f"{name}: {time.perf_counter() - started_s:.0f} s")
        if options.share >= 1:
            _write(RESULTS / f"{name}.csv", rows)
            if name == "coverage":
                _write(SHIPPED, [row for row in rows if row["interval"] in ("t", "bca")])
    return 0


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    sys.exit(main())
