"""`python -m benchmarks.analysis`: times reading, tables, their renderings and the report; takes the memory.

`--study OUT` measures a study of your own instead of a generated one, and prints only.
"""

import argparse
import csv
import os
import platform
import tempfile
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

from benchmarks.analysis.measure import measure
from benchmarks.analysis.records import write_study

_RESULTS: Final = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.analysis", description=__doc__)
    parser.add_argument("--trials", type=int, default=100_000)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--study", type=Path, metavar="OUT")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        out = options.study or Path(folder) / "study"
        if options.study is None:
            write_study(out, options.trials, options.epochs)
        size_mb = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
        what = options.study or f"{options.trials} trials × {options.epochs} epochs"
        print(f"{what}: {size_mb:.0f} MB")
        for repeat in range(options.repeats):
            rows += [
                {"trials": options.trials, "epochs": options.epochs, "repeat": repeat, **row}
                for row in _in_a_process(out)
            ]
    for name in dict.fromkeys(row["what"] for row in rows):
        values = sorted(row["value"] for row in rows if row["what"] == name)
        unit = next(row["unit"] for row in rows if row["what"] == name)
        print(f"{name:<24}{values[len(values) // 2]:>10.2f} {unit}  ({values[0]:.2f} to {values[-1]:.2f})")
    if options.study is not None:
        return
    _RESULTS.mkdir(exist_ok=True)
    with (_RESULTS / "analysis.csv").open("w", newline="") as file:
        told = {
            "python": platform.python_version(),
            "pandas": version("pandas"),
            "pyarrow": version("pyarrow"),
            "cores": os.cpu_count(),
        }
        writer = csv.DictWriter(file, [*rows[0], *told])
        writer.writeheader()
        writer.writerows({**row, **told} for row in rows)


def _in_a_process(out: Path) -> list[dict[str, Any]]:
    """Measure in a process of its own, whose peak of memory is that of nothing else."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(measure, out).result()


if __name__ == "__main__":
    main()
