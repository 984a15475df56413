"""The FSD and LCS alignment of pairs of videos: similarity as a table, the best path over it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis._words import join
from analysis.load import Study
from analysis.localization.alignment import TABLES, Alignment, alignment
from analysis.localization.view import HOW_CHOSEN, View, open_views, shown_arms, trains_with
from analysis.plots.style import MAP, PANEL_IN, Chart, styled
from analysis.tables.table import NothingToShow

# Not of style.py, whose colours change on the dark page: a heat map has the same on both. Light with a dark
# edge, it is seen on every colour of the map.
_ON_MAP: Final = "#fefefe"
_EDGE: Final = "#1c2029"
_HEIGHT_IN: Final = 3.75
_LEFT: Final = 0.165  # of axes and colour bar, in widths of the figure
_WIDTH: Final = 0.8
_BOTTOM: Final = 0.27  # of the axes, in heights of the figure
_TALL: Final = 0.64
_WORDS: Final = {
    "FSD": "Fine-grained sequence distance (FSD): dots are the expected alignment (size: derivative of the "
    "value to the cell at the trial's temperature), the line is the best path of the plain maximum. Its "
    "number is what it collects: match similarity in each cell and gap similarity (not drawn) at each step "
    "down or right, so a path with many such steps can be worth more than the diagonal.",
    "LCS": "Longest common subsequence (LCS): dots are the expected matches (size: derivative of the value "
    "to the cell), the line joins the matches of the plain maximum, whose similarity exceeds the "
    "threshold; its number is their sum.",
}


def alignment_charts(study: Study) -> list[Chart]:
    """Draw every pair of videos that the study keeps details of, by FSD and by LCS, each in two arms.

    Raises NothingToShow if no seed has both arms with details, or if they hold no pair.
    """
    views = {kind: open_views(study, shown_arms(study, kind)) for kind in TABLES}
    pairs = list(dict.fromkeys(pair for kind in TABLES for pair in views[kind][0].pairs))
    if not pairs:
        raise NothingToShow("the trials keep no pair of videos: their recipe aligns none")
    return [_chart(study, views[kind], pair, kind) for pair in pairs for kind in TABLES]


def alignment_figures(
    study: Study, views: Sequence[View], pair: tuple[str, str], kind: str
) -> tuple[Figure, ...]:
    """Draw the alignment of a pair in some trials, on the same colours; a figure for each."""
    drawn = [alignment(study, view, pair, kind) for view in views]
    low = min(part.similarity.min() for part in drawn)
    with styled():
        return tuple(_panel(part, (low, 1.0)) for part in drawn)


def _chart(study: Study, views: Sequence[View], pair: tuple[str, str], kind: str) -> Chart:
    drawn = [alignment(study, view, pair, kind) for view in views]
    table = {"FSD": "match similarity", "LCS": "similarity"}[kind]
    words = [
        f"Cosine {table} of the {len(drawn[0].first_s)} snippets with the highest instance attention in "
        f"{pair[0]} (down) and of {len(drawn[0].second_s)} in {pair[1]} (across), in order of time, seed "
        f"{drawn[0].seed}."
    ]
    if all(part.path is not None for part in drawn):
        words.append(_WORDS[kind])
    else:
        words.append("These records are from before alignments were kept: no path is drawn.")
    untrained = [part.arm for part in drawn if not trains_with(study, part.arm, kind)]
    if untrained:
        verb = "trains" if len(untrained) == 1 else "train"
        layer = ": the layer behind its table is as it was drawn at first" if kind == "FSD" else ""
        words.append(f"{join(untrained)} {verb} without {kind}{layer}.")
    words.append(HOW_CHOSEN)
    name = f"alignment-{kind.lower()}-{pair[0]}-{pair[1]}"
    figures = alignment_figures(study, views, pair, kind)
    return Chart(name, f"{kind} of {pair[0]} and {pair[1]}", " ".join(words), figures)


def _panel(drawn: Alignment, colours: tuple[float, float]) -> Figure:
    drawing = Figure(figsize=(PANEL_IN, _HEIGHT_IN))
    axes = drawing.add_axes((_LEFT, _BOTTOM, _WIDTH, _TALL))
    num_rows, num_columns = drawn.similarity.shape
    image = axes.imshow(
        drawn.similarity, MAP, aspect="auto", vmin=colours[0], vmax=colours[1], interpolation="nearest"
    )
    if drawn.expected is not None and drawn.path is not None:
        # A dot of full size nearly fills a small cell, and leaves a large one to be seen.
        cell_pt = 72 * min(_WIDTH * PANEL_IN / num_columns, _TALL * _HEIGHT_IN / num_rows)
        rows, columns = np.nonzero(drawn.expected > 0.02)
        size = min(0.6 * cell_pt, 11.0) ** 2 * np.clip(drawn.expected[rows, columns], 0, 1)
        for width, colour in ((2.4, _EDGE), (1.1, _ON_MAP)):
            axes.plot(drawn.path[:, 1], drawn.path[:, 0], color=colour, lw=width)
        axes.scatter(columns, rows, s=size, color=_ON_MAP, edgecolors=_EDGE, lw=0.5, zorder=3)
    score = "" if drawn.score is None else f", path {drawn.score:.2f}"
    axes.set_title(f"{drawn.arm}, seed {drawn.seed}{score}")
    axes.grid(visible=False)
    for axis, starts_s in ((axes.xaxis, drawn.second_s), (axes.yaxis, drawn.first_s)):
        places = np.unique(np.linspace(0, len(starts_s) - 1, 6).round().astype(int))
        axis.set_ticks(places, [f"{starts_s[place]:.1f}" for place in places])
    axes.set_xlabel("snippet at (s), second video")
    axes.set_ylabel("snippet at (s), first video")
    axes.yaxis.set_label_coords(-0.145, 0.5)
    bar = drawing.colorbar(
        image, cax=drawing.add_axes((_LEFT, 0.105, _WIDTH, 0.025)), orientation="horizontal"
    )
    bar.set_label("cosine similarity", labelpad=1)
    bar.locator = MaxNLocator(5)
    bar.outline.set_visible(False)
    return drawing
