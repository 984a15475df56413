"""The picture of the docs: time against length, drawn from the CSV file of a run.

python -m benchmarks.dp.plot benchmarks/dp/results/cpu.csv docs/images/dp_growth.svg
"""

import argparse
import io
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.dp.cases import GROWTH_SIZES
from benchmarks.dp.machine import caption
from benchmarks.dp.records import read_csv
from ftcl.files import atomic_write

# Colours that people with any kind of colour vision tell apart; ours are the strong ones.
_LINES = {
    "loops": ("plain torch loops", "#8c8c8c", ":"),
    "pysdtw": ("pysdtw", "#b35900", "--"),
    "tslearn": ("tslearn", "#cc79a7", "--"),
    "torch": ("ftcl.dp, torch backend", "#56b4e9", "-"),
    "native": ("ftcl.dp, native backend", "#0072b2", "-"),
    "triton": ("ftcl.dp, Triton backend", "#009e73", "-"),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", type=Path, metavar="CSV")
    parser.add_argument("picture", type=Path, metavar="SVG")
    options = parser.parse_args()
    draw(options.table, options.picture)


def draw(table: Path, picture: Path) -> None:
    """Log-log lines of the medians with bands from the 10th to the 90th percentile."""
    rows, facts = read_csv(table)
    # Text stays text: small, sharp, searchable; the salt makes the file the same for the same figures.
    style = {"svg.fonttype": "none", "svg.hashsalt": "dp", "font.family": "sans-serif", "font.size": 11}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        axes = figure.add_subplot()
        ends = []
        for name, (label, colour, line) in _LINES.items():
            points = [
                [float(row[column]) for column in ("rows", "median_ms", "p10_ms", "p90_ms")]
                for row in rows
                if row["section"] == "growth" and row["contender"] == name and row["median_ms"]
            ]
            if not points:
                continue
            length, median, p10, p90 = zip(*points, strict=True)
            width = 2.4 if label.startswith("ftcl") else 1.6
            axes.plot(length, median, line, color=colour, linewidth=width, marker="o", markersize=3.5)
            axes.fill_between(length, p10, p90, color=colour, alpha=0.2, linewidth=0)
            ends.append((median[-1], length[-1], label, colour))
        lengths = [size.rows for size in GROWTH_SIZES]
        axes.set(xscale="log", yscale="log", xlim=(4.4, 1100), xlabel="length N = M of the two sequences")
        axes.set_xticks(lengths, [str(n) for n in lengths])
        axes.minorticks_off()
        _label(axes, ends)
        axes.set_ylabel("ms, forward and backward")
        axes.set_title("Soft-DTW of 16 pairs, γ = 0.1, float32", loc="left", fontsize=12, fontweight="bold")
        axes.grid(color="#e4e4e4", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        figure.text(0.01, -0.035, caption(facts), fontsize=9, color="#555555")
        buffer = io.BytesIO()
        figure.savefig(
            buffer,
            format="svg",
            bbox_inches="tight",
            facecolor="white",
            metadata={"Date": None, "Creator": None},
        )
    atomic_write(picture, lambda file: file.write(buffer.getvalue()))


def _label(axes: Axes, ends: list[tuple[float, float, str, str]]) -> None:
    """Names at the ends of the lines, moved apart where they would touch."""
    bottom, top = axes.get_ylim()
    apart = (top / bottom) ** 0.05  # a line of text
    lowest = 0.0
    for median, length, label, colour in sorted(ends):
        height = median
        if length == GROWTH_SIZES[-1].rows:
            height = lowest = max(median, lowest * apart)
        axes.annotate(
            label,
            (length, height),
            xytext=(7, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            annotation_clip=False,
        )


if __name__ == "__main__":
    main()
