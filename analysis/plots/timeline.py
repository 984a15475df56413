"""Timelines of single videos: annotations, proposals, activation and attention, arm beside arm."""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.load import Study
from analysis.localization.evaluation import class_names
from analysis.localization.timeline import Timeline, timeline
from analysis.localization.view import FOUND_TIOU, HOW_CHOSEN, View, open_views, shown_arms
from analysis.plots.style import GRID, INK, MUTED, PANEL_IN, SERIES, Chart, colour_of, sentences, styled

_ROWS: Final = (0.32, 1.35, 1.15, 0.9)  # annotations, proposals, activation, attention
_LEFT: Final = -0.19  # of what stands at the panel's left edge, in widths of the axes
_BRANCHES: Final = (
    {"color": INK, "lw": 1.3},
    {"color": MUTED, "lw": 1.0, "ls": "--"},
    {"color": MUTED, "lw": 1.0, "ls": ":"},
)


def timeline_charts(study: Study) -> list[Chart]:
    """Draw the timelines of every video that the study keeps details of, in two arms; the first one explains.

    Raises NothingToShow if no seed has both arms with details.
    """
    views = open_views(study, shown_arms(study))
    return [_chart(study, views, video, explains=i == 0) for i, video in enumerate(views[0].videos)]


def timeline_chart(study: Study, video: str, arms: Sequence[str]) -> Chart:
    """Draw the timeline of a video in some arms, all on the first seed that has them.

    Raises NothingToShow if no seed has all arms with details, RecordsError for a video without.
    """
    return _chart(study, open_views(study, arms), video)


def timeline_figures(study: Study, views: Sequence[View], video: str) -> tuple[Figure, ...]:
    """Draw the timeline of a video in some trials, on the same scales; a figure for each."""
    return _draw(study, [timeline(study, view, video) for view in views])


def _chart(study: Study, views: Sequence[View], video: str, *, explains: bool = True) -> Chart:
    lines = [timeline(study, view, video) for view in views]
    found = "; ".join(
        f"{line.arm}: {len(line.segments)} annotated segments, {len(line.proposals)} proposals, of which "
        f"{int(line.proposals['found'].sum())} found one"
        for line in lines
    )
    unnamed = any(line.activation.empty for line in lines)
    caption = sentences(
        f"Test video {video}, seed {lines[0].seed}, with the weights that were evaluated.",
        "From above: annotated segments; all proposals, each as long as it lasts and as high as its score, "
        f"thick where it found a segment (true positive at tIoU {FOUND_TIOU:g}); class activation sequence "
        "(CAS, softmax) of the classes that are annotated or proposed; attention."
        if explains
        else "Drawn, and chosen by rule, as the first one.",
        f"{found}.",
        "The records do not tell whose activation is whose, so none is drawn." if unnamed else None,
        HOW_CHOSEN if explains else None,
    )
    return Chart(f"timeline-{video}", f"Timeline of {video}", caption, _draw(study, lines))


def _draw(study: Study, lines: Sequence[Timeline]) -> tuple[Figure, ...]:
    names = class_names(study)
    shown = [name for name in names if any(name in line.labels for line in lines)]
    # A class has the same colour in all pictures, unless there are more classes than colours.
    known = names if len(names) <= len(SERIES) else shown
    colours = {name: colour_of(known, name) for name in shown}
    scores = pd.concat([line.proposals["score"] for line in lines])
    limits = (min(0.0, scores.min()), max(0.1, scores.max())) if len(scores) else (0.0, 1.0)
    with styled():
        return tuple(_panel(line, colours, limits) for line in lines)


def _panel(line: Timeline, colours: Mapping[str, str], scores: tuple[float, float]) -> Figure:
    columns = 3 if max(map(len, colours), default=0) <= 10 else 2
    num_rows = math.ceil(len(colours) / columns)
    head_in, height_in = 0.34 + 0.155 * num_rows, 4.0 + 0.155 * num_rows
    drawing = Figure(figsize=(PANEL_IN, height_in))
    # Margins are given, since all timelines have the same parts: to find them out takes most of the time.
    margins = {"left": 0.165, "right": 0.975, "bottom": 0.58 / height_in, "top": 1 - head_in / height_in}
    axes = drawing.subplots(
        len(_ROWS), 1, sharex=True, height_ratios=_ROWS, gridspec_kw={**margins, "hspace": 0.14}
    )
    axes[0].set_title(f"{line.arm}, seed {line.seed}", pad=9 + 12 * num_rows, x=_LEFT)
    _annotations(axes[0], line, colours, columns)
    _proposals(axes[1], line, colours, scores)
    for name in (name for name in colours if name in line.activation):
        axes[2].plot(line.time_s, line.activation[name], color=colours[name])
    for (branch, values), look in zip(line.attention.items(), _BRANCHES, strict=False):
        axes[3].plot(line.time_s, values, label=str(branch), **look)
    for place, label in zip(axes[1:], ("score", "CAS", "attention"), strict=True):
        place.set_ylabel(label)
        place.yaxis.set_label_coords(-0.14, 0.5)
    for place in axes[2:]:
        place.set_ylim(-0.04, 1.04)
        place.set_yticks([0, 0.5, 1])
    axes[-1].set_xlim(0, line.end_s)
    axes[-1].set_xlabel("time (s)")
    axes[-1].legend(loc="upper left", bbox_to_anchor=(_LEFT, -0.5), ncols=3, columnspacing=1.2)
    return drawing


def _annotations(axes: Axes, line: Timeline, colours: Mapping[str, str], columns: int) -> None:
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for label, start_s, end_s in _tuples(line.segments, "label", "start_s", "end_s"):
        axes.axvspan(start_s, end_s, 0.08, 0.92, color=colours[label], lw=0)
    handles = [LineCollection([], colors=[colour], linewidths=4) for colour in colours.values()]
    axes.legend(
        handles,
        list(colours),
        loc="lower left",
        bbox_to_anchor=(_LEFT, 0.93),
        ncols=columns,
        handlelength=1.0,
        columnspacing=1.0,
    )


def _proposals(axes: Axes, line: Timeline, colours: Mapping[str, str], scores: tuple[float, float]) -> None:
    axes.axhline(0, color=GRID, lw=0.8)
    for found, width, opacity in ((False, 1.0, 0.55), (True, 3.2, 1.0)):
        drawn = line.proposals[line.proposals["found"] == found]
        ends = _tuples(drawn, "start_s", "end_s", "score")
        axes.add_collection(
            LineCollection(
                [[(start_s, score), (end_s, score)] for start_s, end_s, score in ends],
                colors=[colours[label] for label in drawn["label"]],
                linewidths=width,
                alpha=opacity,
                capstyle="butt",
            )
        )
    low, top = scores
    axes.yaxis.set_major_locator(MaxNLocator(3))
    axes.set_ylim(low - 0.05 * (top - low), top + 0.08 * (top - low))


def _tuples(frame: pd.DataFrame, *columns: str) -> list[tuple]:
    return list(zip(*(frame[column].tolist() for column in columns), strict=True))
