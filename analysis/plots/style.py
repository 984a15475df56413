"""How all pictures look, and the one place where they become SVG or PNG.

Pictures are matplotlib figures made without pyplot: no window, no global state. A `Chart` is one or more
figures that are read together; each is a panel narrow enough for a phone, or wide. Their colours are those of
the light page; as SVG within a page they become CSS variables, so that one drawing serves light and dark.
"""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

INK: Final = "#1f2430"
MUTED: Final = "#6b7282"
GRID: Final = "#d9dde6"
PAPER: Final = "#ffffff"
# Each unlike all others also to eyes without red or green cones: they differ in lightness where hues meet.
SERIES: Final = ("#0072b2", "#d55e00", "#198e62", "#5c145a", "#614a18", "#369db0", "#5a53e3", "#67283f")
# Two arms side by side: what is compared with in orange and hollow, the other one in blue and filled.
PAIR: Final = (
    (SERIES[1], "none", "--"),
    (SERIES[0], SERIES[0], ":"),
)  # colour, filling of marks, line of a mean
MARKERS: Final = ("o", "s", "^", "D", "v")
GOOD: Final = "#00795a"
BAD: Final = "#c2410c"
WINNER: Final = "#8e1a6b"  # what the search chose, in every picture
# Colour -> CSS variable of the report's page (analysis/report/style.css), which names a dark twin for each.
VARIABLES: Final = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    GOOD: "--good",
    BAD: "--bad",
    WINNER: "--winner",
    **{colour: f"--series-{index}" for index, colour in enumerate(SERIES)},
}
# One colour map for all ordered values: monotone in lightness, without the ends that a page would swallow.
MAP: Final = LinearSegmentedColormap.from_list("study", colormaps["viridis"](np.linspace(0.14, 0.93, 64)))
RIM: Final = "#fdfdfd"  # around marks on a map, on either page

PANEL_IN: Final = 3.55  # inches: 341 px, what a phone shows without shrinking
WIDE_IN: Final = 7.4
_DPI: Final = 96

_RC: Final = {
    "font.size": 9.0,
    "font.family": "sans-serif",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 8.0,
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "ytick.labelsize": 8.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
    "figure.facecolor": "none",
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.06,
    "axes.facecolor": "none",
    "text.parse_math": False,  # a $ in a name is a $
    "svg.fonttype": "none",  # text stays text: it can be searched, and takes the page's font
    "pdf.fonttype": 42,
    "svg.hashsalt": "study",  # the same records give the same file
}


@dataclass(frozen=True)
class Chart:
    """Figures that are read together, with the words that a reader needs who cannot see them."""

    name: str  # of its files
    title: str
    caption: str  # what is drawn, how to read it, what it rests on (n); stands below it and is its alt text
    figures: tuple[Figure, ...]


def figure(width: float = PANEL_IN, height: float = 2.5) -> tuple[Figure, Axes]:
    """Return an empty figure of one set of axes, in inches; draw within `styled()`."""
    with styled():
        drawing = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        return drawing, drawing.add_subplot()


def styled():  # type: ignore[no-untyped-def]
    """Return the context within which figures and their parts are made."""
    return matplotlib.rc_context(_RC)


def to_svg(drawing: Figure, *, variables: bool = False) -> str:
    """Return a figure as an <svg> element; with `variables` its colours follow the page's theme."""
    content = io.StringIO()
    with styled():
        # Not savefig: it draws everything a first time, for its layout alone.
        FigureCanvasSVG(drawing).print_svg(content, metadata={"Date": None, "Creator": None})
    text = content.getvalue()
    text = text[text.index("<svg") :]
    if variables:
        for colour, name in VARIABLES.items():
            text = text.replace(colour, f"var({name})")
    return text


def to_png(drawing: Figure, *, dpi: int = 2 * _DPI) -> bytes:
    """Return a figure as a PNG on the light page's ground."""
    content = io.BytesIO()
    with styled():
        drawing.savefig(content, format="png", dpi=dpi, facecolor=PAPER)
    return content.getvalue()


def legend_below(drawing: Figure, axes: Axes, columns: int | None = None) -> None:
    """Put the legend of some axes below them, where it covers no data, in as many columns as fit."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    if columns is None:
        # In inches: handle, gaps, and a generous width of a letter.
        of_each = 0.5 + 0.075 * max(map(len, labels))
        most = max(1, int(drawing.get_figwidth() / of_each))
        rows = math.ceil(len(labels) / most)
        columns = math.ceil(len(labels) / rows)
    drawing.legend(handles, labels, loc="outside lower left", ncols=columns)


def colour_of(names: Sequence[str], name: str) -> str:
    """Return the colour that a name has among others, the same in every picture."""
    return SERIES[list(names).index(name) % len(SERIES)]


def title(axes: Axes, words: str, below: str = "") -> None:
    """Head a panel; `below` stands under its title in small print."""
    axes.set_title(words, pad=19.0 if below else 8.0)
    if below:
        axes.annotate(
            below, (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", fontsize=8.5
        ).set_color(MUTED)


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Give a panel a row for each name, from the bottom up."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")


def sentences(*parts: str | None) -> str:
    """Return a caption of whole sentences; those that are None or empty do not apply."""
    return " ".join(part for part in parts if part)


def count(number: int) -> str:
    """Return a number of things with its thousands set apart."""
    return f"{number:,}".replace(",", "\u2009")


def sampled(count: int, most: int) -> np.ndarray:
    """Return in order the places of all of `count` things, or of `most` chosen at random, always the same."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, size=most, replace=False))


def wrapped(name: str) -> str:
    """Return a long name in lines that leave a panel room for what is drawn."""
    return textwrap.fill(name, 20, max_lines=2, placeholder=" …")
