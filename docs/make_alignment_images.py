"""Draw the pictures of docs/alignment.md: `python docs/make_alignment_images.py`.

All pictures are of the same two sequences, and of what the functions of ftcl.dp make of them. They are drawn
with matplotlib, which the extra `bench` brings. N rows (of x), M columns (of y).
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor

from ftcl.dp import dtw, fsd, lcs, smooth_dtw, soft_dtw
from ftcl.files import atomic_write

X = [0.1, 0.4, 1.5, 2.0, 1.2, 0.3, 0.2, 1.1, 0.3]
Y = [0.0, 0.3, 0.9, 1.6, 1.9, 1.1, 0.2, -1.0, -0.9, 0.3, 1.0, 0.2]
GAP = -0.6
GAMMAS = (0.01, 0.1, 1.0)

_FOLDER = Path(__file__).parent / "images"
_WIDTH = 7.2  # inches; 691 pixels in a browser
# Of the palette of Okabe and Ito, which colour-blind readers can tell apart.
_BLUE, _ORANGE, _PURPLE, _GREEN = "#0072B2", "#E69F00", "#CC79A7", "#009E73"
_INK, _FAINT, _BEYOND = "#333333", "#8C8C8C", "#808080"
_SHADES = LinearSegmentedColormap.from_list("shades", ["#C4C4C4", "#FFFFFF"])
_STYLE = {
    "svg.hashsalt": "ftcl.dp",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "lines.solid_capstyle": "round",
}


def main() -> None:
    matplotlib.use("svg")
    pictures = {
        "dtw": draw_dtw,
        "band": draw_band,
        "soft_dtw": lambda: draw_gammas(soft_dtw),
        "smooth_dtw": lambda: draw_gammas(smooth_dtw),
        "fsd": draw_fsd,
        "lcs": draw_lcs,
        "gamma": draw_gamma,
    }
    with plt.rc_context(_STYLE):
        for name, draw in pictures.items():
            figure = draw()
            written = io.BytesIO()
            figure.savefig(written, format="svg", metadata={"Date": None})
            plt.close(figure)
            path = _FOLDER / f"alignment_{name}.svg"
            picture = _shortened(written.getvalue().decode()).encode()
            atomic_write(path, lambda file, picture=picture: file.write(picture))
            print(f"written: {path}")


def cost_table() -> Tensor:
    """c[i,j] = (x_i − y_j)², as a batch of one."""
    x_N, y_M = torch.tensor(X, dtype=torch.float64), torch.tensor(Y, dtype=torch.float64)
    return (x_N[:, None] - y_M).square()[None]


def similarity_table() -> Tensor:
    """s[i,j] = 2·exp(−c[i,j]) − 1: 1 for equal values, towards −1 for distant ones."""
    return 2.0 * torch.exp(-cost_table()) - 1.0


def value_and_gradients(call: Callable[..., Tensor], *tables: Tensor) -> tuple[float, list[Tensor]]:
    tables = tuple(x.clone().requires_grad_() for x in tables)
    value_1 = call(*tables)
    gradients = torch.autograd.grad(value_1.sum(), tables)
    return value_1.item(), [x[0] for x in gradients]


def draw_dtw() -> Figure:
    """The alignment as links between the sequences, and as a path through the table of accumulated costs."""
    cost_1NM = cost_table()
    _, num_rows, num_columns = cost_1NM.shape
    value_1, path_1K2 = dtw(cost_1NM, return_path=True)
    path = [(i, j) for i, j in path_1K2[0].tolist() if i >= 0]
    figure = plt.figure(figsize=(_WIDTH, 3.66))

    links = _axes(figure, 0.1, 0.1, 2.6, 3.2)
    lift = 4.2
    for i, j in path:
        links.plot([i + 1.5, j], [X[i] + lift, Y[j]], color=_BLUE, linewidth=0.9, zorder=1)
    links.plot([i + 1.5 for i in range(num_rows)], [x + lift for x in X], "o-", **_line(3.5))
    links.plot(range(num_columns), Y, "o-", **_line(3.5))
    links.text(0.6, lift + 0.15, "x", fontsize=11, style="italic", ha="center", va="center")
    links.text(-0.9, Y[0], "y", fontsize=11, style="italic", ha="center", va="center")
    links.set_xlim(-1.3, num_columns - 0.5)
    links.set_ylim(-1.5, lift + 2.4)
    _title(figure, 1.4, "which values are aligned")

    # The accumulated cost of a cell is the DTW of the sequences up to there.
    lengths = torch.cartesian_prod(torch.arange(1, num_rows + 1), torch.arange(1, num_columns + 1))
    accumulated = dtw(cost_1NM.expand(len(lengths), -1, -1), lengths).view(num_rows, num_columns)
    table = _table(
        figure, 3.28, 0.1, 0.32, f"accumulated costs R, and the path; value {_digits(value_1.item())}"
    )
    _with_sequences(figure, table, left=True)
    table.plot([j for _, j in path], [i for i, _ in path], color=_BLUE, linewidth=11, alpha=0.3, zorder=2)
    for i in range(num_rows):
        for j in range(num_columns):
            table.text(
                j,
                i,
                f"{accumulated[i, j]:.1f}",
                fontsize=6.8,
                ha="center",
                va="center",
                weight="bold" if (i, j) in path else "normal",
                zorder=3,
            )
    return figure


def draw_band() -> Figure:
    """DTW's path within Sakoe-Chiba bands."""
    figure, tables = _three_tables(
        [f"bandwidth={radius}, value {_digits(_banded(radius)[0])}" for radius in (0, 1, 2)],
        [("s", _BEYOND, "outside the band"), ("o", _BLUE, "the path")],
    )
    for table, radius in zip(tables, (0, 1, 2), strict=True):
        value, on_path_NM = _banded(radius)
        num_rows, num_columns = on_path_NM.shape
        for i in range(num_rows):
            for j in range(num_columns):
                if abs(i * (num_columns - 1) - j * (num_rows - 1)) > radius * (num_rows - 1):
                    _mark(table, i, j, facecolor=_BEYOND, edgecolor="white", linewidth=0.4)
        if math.isinf(value):
            _note(table, "no path stays inside")
        else:
            _path(table, on_path_NM)
    return figure


def _banded(radius: int) -> tuple[float, Tensor]:
    value, (on_path_NM,) = value_and_gradients(lambda c: soft_dtw(c, 0, bandwidth=radius), cost_table())
    return value, on_path_NM


def draw_gammas(function: Callable[..., Tensor]) -> Figure:
    """The gradient to the cost at three temperatures."""
    num_signs = 2 if function is smooth_dtw else 1
    solved = [value_and_gradients(lambda c, g=gamma: function(c, g), cost_table()) for gamma in GAMMAS]
    figure, tables = _three_tables(
        [f"γ = {gamma:g}, value {_digits(value)}" for gamma, (value, _) in zip(GAMMAS, solved, strict=True)],
        [("o", _BLUE, "gradient of a cell, as the area of its disc"), ("o", _PURPLE, "below zero")][
            :num_signs
        ],
    )
    for table, (_, (share_NM,)) in zip(tables, solved, strict=True):
        _discs(table, share_NM, _BLUE)
        _discs(table, -share_NM, _PURPLE)
    return figure


def draw_fsd() -> Figure:
    """The gradients to match and gap similarity: the hard path, and two temperatures."""
    match_1NM = similarity_table()
    gap_1NM = torch.full_like(match_1NM, GAP)
    gammas = (0, 0.1, 1.0)
    solved = [
        value_and_gradients(lambda m, g, gamma=gamma: fsd(m, g, gamma), match_1NM, gap_1NM)
        for gamma in gammas
    ]
    figure, tables = _three_tables(
        [f"γ = {gamma:g}, value {_digits(value)}" for gamma, (value, _) in zip(gammas, solved, strict=True)],
        [("o", _BLUE, "gradient of the match"), ("o", _ORANGE, "the part of it that came by a gap")],
    )
    for table, (_, (match_NM, gap_NM)) in zip(tables, solved, strict=True):
        _discs(table, match_NM, _BLUE)
        _discs(table, gap_NM, _ORANGE)
    return figure


def draw_lcs() -> Figure:
    """The matches of LCS under two thresholds, and with a smooth else-branch."""
    similarity_1NM = similarity_table()
    settings = [(0.5, 0.0), (0.9, 0.0), (0.5, 1.0)]
    solved = [
        value_and_gradients(lambda s, t=threshold, g=gamma: lcs(s, t, gamma=g), similarity_1NM)
        for threshold, gamma in settings
    ]
    figure, tables = _three_tables(
        [
            f"τ = {threshold:g}, γ = {gamma:g}, value {_digits(value)}"
            for (threshold, gamma), (value, _) in zip(settings, solved, strict=True)
        ],
        [("s", _GREEN, "similarity above τ"), ("o", _BLUE, "gradient of a cell, as the area of its disc")],
    )
    for table, (threshold, _), (_, (share_NM,)) in zip(tables, settings, solved, strict=True):
        for i, j in (similarity_1NM[0] > threshold).nonzero().tolist():
            _mark(table, i, j, facecolor="none", edgecolor=_GREEN, linewidth=1.0)
        _discs(table, share_NM, _BLUE)
    return figure


def draw_gamma() -> Figure:
    """Values and entropy of the paths against γ."""
    gamma_K = torch.logspace(-3, 2, 101, dtype=torch.float64)
    cost_KNM = cost_table().expand(len(gamma_K), -1, -1)
    temperature_K = gamma_K.clone().requires_grad_()
    soft_K = soft_dtw(cost_KNM, temperature_K)
    entropy_K = -torch.autograd.grad(soft_K.sum(), temperature_K)[0]
    smooth_K = smooth_dtw(cost_KNM, gamma_K)
    hard = dtw(cost_table()).item()
    num_paths = math.exp(-soft_dtw(torch.zeros_like(cost_table()), 1.0).item())

    figure = plt.figure(figsize=(_WIDTH, 2.35))
    values = _curves(figure, 0.55, "value")
    values.axhline(hard, color=_FAINT, linewidth=1.0, linestyle=(0, (4, 3)))
    values.plot(gamma_K, smooth_K, color=_ORANGE, linewidth=1.8)
    values.plot(gamma_K, soft_K.detach(), color=_BLUE, linewidth=1.8)
    values.set_ylim(-12, 24)
    values.set_yticks([-10, 0, 10, 20])
    values.text(1.3e-3, hard + 0.6, "dtw", color=_FAINT, va="bottom")
    values.text(1.0, 9.0, "smooth_dtw", color="#9A6A00", va="bottom", ha="right")
    values.text(0.6, -6.0, "soft_dtw", color=_BLUE, va="center", ha="right")
    entropy = _curves(figure, 4.25, "entropy of the paths in nats")
    entropy.axhline(math.log(num_paths), color=_FAINT, linewidth=1.0, linestyle=(0, (4, 3)))
    entropy.plot(gamma_K, entropy_K, color=_BLUE, linewidth=1.8)
    entropy.set_ylim(0, 16.5)
    entropy.set_yticks([0, 5, 10, 15])
    entropy.text(1.3e-3, math.log(num_paths) - 0.4, f"log of {num_paths:,.0f} paths", va="top", color=_FAINT)
    return figure


def _three_tables(titles: Sequence[str], legend: Sequence[tuple[str, str, str]]) -> tuple[Figure, list[Axes]]:
    """Three tables in a row between the sequences and a line of (mark, colour, text)."""
    side = 0.1805
    figure = plt.figure(figsize=(_WIDTH, 2.54))
    tables = [
        _table(figure, 0.42 + k * (side * len(Y) + 0.12), 0.31, side, title) for k, title in enumerate(titles)
    ]
    for k, table in enumerate(tables):
        _with_sequences(figure, table, left=k == 0)
    line = _axes(figure, 0.42, 0.06, 6.6, 0.2)
    line.set_xlim(0, 6.6)
    line.set_ylim(-0.1, 0.1)
    left = 0.09
    for mark, colour, text in legend:
        line.plot(
            left, 0, mark, color=colour, markersize=6.5, fillstyle="none" if colour == _GREEN else "full"
        )
        line.text(left + 0.14, -0.005, text, fontsize=8, va="center")
        left += 0.5 + 0.056 * len(text)
    return figure, tables


def _digits(value: float) -> str:
    return "∞" if math.isinf(value) else f"{value:.2f}".replace("-", "−")


def _title(figure: Figure, centre: float, text: str) -> None:
    across, along = figure.get_size_inches()
    figure.text(centre / across, 1 - 0.2 / along, text, ha="center", fontsize=8.5)


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Axes without ticks or frame, in inches."""
    across, along = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / along, width / across, height / along))
    axes.set_axis_off()
    return axes


def _table(figure: Figure, left: float, bottom: float, side: float, title: str) -> Axes:
    """Shades for how close each x_i is to each y_j; cells have the given side in inches."""
    similarity_NM = similarity_table()[0]
    num_rows, num_columns = similarity_NM.shape
    table = _axes(figure, left, bottom, side * num_columns, side * num_rows)
    table.set_xlim(-0.5, num_columns - 0.5)
    table.set_ylim(num_rows - 0.5, -0.5)
    for i in range(num_rows):
        for j in range(num_columns):
            shade = _SHADES(0.5 * (1.0 + similarity_NM[i, j].item()))
            _mark(table, i, j, facecolor=shade, edgecolor="none", zorder=0)
    grid = {"color": "#D9D9D9", "linewidth": 0.5, "zorder": 0.5, "clip_on": False}
    table.hlines([i - 0.5 for i in range(num_rows + 1)], -0.5, num_columns - 0.5, **grid)
    table.vlines([j - 0.5 for j in range(num_columns + 1)], -0.5, num_rows - 0.5, **grid)
    _title(figure, left + side * num_columns / 2, title)
    return table


def _with_sequences(figure: Figure, table: Axes, *, left: bool) -> None:
    """The sequence y along the upper edge of a table, and x along the left one."""
    across, along = figure.get_size_inches()
    box = table.get_position()
    low, high = min(X + Y) - 0.35, max(X + Y) + 0.35
    depth, distance = 0.3, 0.05
    upper = _axes(figure, box.x0 * across, box.y1 * along + distance, box.width * across, depth)
    upper.plot(range(len(Y)), Y, "o-", **_line(2.4))
    upper.set_xlim(-0.5, len(Y) - 0.5)
    upper.set_ylim(low, high)
    upper.text(-0.62, Y[0], "y", **_name(ha="right", va="center"))
    if left:
        side = _axes(figure, box.x0 * across - distance - depth, box.y0 * along, depth, box.height * along)
        side.plot(X, range(len(X)), "o-", **_line(2.4))
        side.set_xlim(high, low)
        side.set_ylim(len(X) - 0.5, -0.5)
        side.text(X[0], -0.55, "x", **_name(ha="center", va="bottom"))


def _curves(figure: Figure, left: float, title: str) -> Axes:
    axes = _axes(figure, left, 0.42, 2.8, 1.62)
    axes.set_axis_on()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(width=0.6, length=3, labelsize=7.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xscale("log")
    axes.set_xlim(1e-3, 1e2)
    axes.set_xlabel("γ", labelpad=1)
    axes.set_title(title, fontsize=8.5, pad=4)
    return axes


def _shortened(picture: str) -> str:
    """The picture with coordinates of two digits, and without groups and spaces that change nothing."""

    def rounded(path: re.Match[str]) -> str:
        return re.sub(
            r"-?\d+\.\d+", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), path[0]
        )

    picture = re.sub(r'\bd="[^"]*"', rounded, picture)
    picture = re.sub(r'<g id="patch_\d+">\s*(<path[^>]*/>)\s*</g>', r"\1", picture)
    picture = re.sub(r" ?\n(?=[MLCQz\"])", " ", picture)
    return re.sub(r"\n\s+", "\n", picture)


def _mark(table: Axes, i: int, j: int, *, zorder: float = 1, **style: object) -> None:
    table.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, zorder=zorder, clip_on=False, **style))


def _discs(table: Axes, share_NM: Tensor, colour: str) -> None:
    """A disc in each cell whose area is the share; what could not be seen is left out."""
    for i, j in (share_NM > 0.004).nonzero().tolist():
        radius = 0.42 * math.sqrt(share_NM[i, j].item())
        table.add_patch(Circle((j, i), radius, facecolor=colour, edgecolor="none", zorder=2))


def _path(table: Axes, on_path_NM: Tensor) -> None:
    cells = on_path_NM.nonzero()
    table.plot(cells[:, 1], cells[:, 0], "o-", color=_BLUE, linewidth=1.6, markersize=3.6, zorder=3)


def _note(table: Axes, text: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none", "pad": 2.5}
    table.text(0.5, 0.5, text, transform=table.transAxes, ha="center", va="center", bbox=box, zorder=4)


def _name(**where: str) -> dict[str, object]:
    return {"fontsize": 9, "style": "italic", **where}


def _line(size: float) -> dict[str, object]:
    return {"color": _INK, "linewidth": 1.0, "markersize": size, "clip_on": False, "zorder": 2}


if __name__ == "__main__":
    main()
