"""Learning curves: every run of the search to where it stopped, and the ablation's arms."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis._words import count_range, join
from analysis.load import Study
from analysis.plots import style
from analysis.search.curves import arm_curves, curve_quantiles
from analysis.search.proposals import SearchRecords, search_of

_MOST_LINES = 150  # runs of a seed; beyond, quantiles
_MOST_SEEDS = 4
_MOST_ARMS = 6  # in one panel


def curves_chart(study: Study) -> style.Chart:
    """Draw the objective by epoch, one panel per search seed; raises NothingToShow if there is none yet."""
    search = search_of(study)
    seeds = search.seeds[:_MOST_SEEDS]
    crowded = search.runs["seed"].value_counts().max() > _MOST_LINES
    quantiles = curve_quantiles(search) if crowded else None
    figures = tuple(_panel(search, seed, quantiles) for seed in seeds)
    if crowded:
        how = (
            "Line and bands: median, middle 50 % and 90 % of the complete runs. Dashed: the median of the "
            "runs that were stopped at a rung, up to there, with a cross and their number."
        )
    else:
        how = (
            "One line is one run, drawn to where it came: a cross ends one that was stopped, a ring one that "
            "failed or is still running."
        )
    caption = style.sentences(
        f"{search.objective.label} by epoch; seeds start from different models and have a panel each.",
        how,
        "Dotted: rungs, which compare the best value so far." if search.early_stopping else None,
        f"n = {style.count(len(search.runs))} runs of {style.count(len(search.proposals))} proposals.",
        f"{len(seeds)} of {len(search.seeds)} seeds are shown." if len(seeds) < len(search.seeds) else None,
    )
    return style.Chart("curves", "Learning curves of the search", caption, figures)


def _panel(search: SearchRecords, seed: int, quantiles: pd.DataFrame | None) -> Figure:
    drawing, axes = style.figure(height=2.4)
    with style.styled():
        for rung in search.early_stopping.rungs if search.early_stopping else ():
            axes.axvline(rung, color=style.MUTED, linewidth=1, linestyle=":")
        if quantiles is None:
            _runs(axes, search.epochs[search.epochs["seed"] == seed], search)
        else:
            _bands(axes, quantiles[quantiles["seed"] == seed])
        _finish(axes)
        axes.set_ylabel(search.objective.metric)
        counts = search.runs.loc[search.runs["seed"] == seed, "status"].value_counts()
        told = ", ".join(f"{style.count(n)} {name}" for name, n in counts.items())
        style.title(axes, f"seed {seed}", told)
    return drawing


def _runs(axes: Axes, epochs: pd.DataFrame, search: SearchRecords) -> None:
    looks = {"complete": (style.SERIES[0], 0.55), "stopped": (style.BAD, 0.8)}
    for status, group in epochs.groupby("status", sort=True):
        colour, alpha = looks.get(str(status), (style.MUTED, 0.8))
        lines = [run[["epoch", "value"]].to_numpy() for _, run in group.groupby("trial")]
        axes.add_collection(LineCollection(lines, colors=colour, linewidths=1.1, alpha=alpha))
        if status != "complete":
            ends = group.groupby("trial").last()
            marker = "x" if status == "stopped" else "o"
            axes.plot(
                ends["epoch"],
                ends["value"],
                marker,
                color=colour,
                markersize=5.5,
                markerfacecolor="none",
                markeredgewidth=1.5,
            )
    winner = epochs[epochs["proposal"] == search.winner]
    axes.plot(winner["epoch"], winner["value"], color=style.WINNER, linewidth=2.2, label="winner")
    axes.autoscale_view()
    if len(winner):
        axes.legend(loc="upper left", handlelength=1.2)


def _bands(axes: Axes, quantiles: pd.DataFrame) -> None:
    for fate, group in quantiles.groupby("fate"):
        if fate == 0:
            axes.fill_between(
                group["epoch"], group["q05"], group["q95"], color=style.SERIES[0], alpha=0.15, linewidth=0
            )
            axes.fill_between(
                group["epoch"], group["q25"], group["q75"], color=style.SERIES[0], alpha=0.3, linewidth=0
            )
            axes.plot(group["epoch"], group["q50"], color=style.SERIES[0])
            continue
        axes.plot(group["epoch"], group["q50"], color=style.BAD, linestyle="--", linewidth=1.2)
        end = group.iloc[-1]
        axes.plot(end["epoch"], end["q50"], "x", color=style.BAD, markersize=6, markeredgewidth=1.6)
        axes.annotate(
            f"{int(end['n'])}",
            (end["epoch"], end["q50"]),
            xytext=(4, -9),
            textcoords="offset points",
            color=style.BAD,
            fontsize=8,
        )


def arm_curves_chart(study: Study) -> style.Chart:
    """Draw every arm's paired difference to the baseline by epoch."""
    table = arm_curves(study)
    arms = list(dict.fromkeys(table["arm"]))
    panels = np.array_split(arms, math.ceil(len(arms) / _MOST_ARMS))
    drawn = table[["mean", "ci_low", "ci_high"]]
    limits = (min(0.0, drawn.min().min()), max(0.0, drawn.max().max()))
    figures = tuple(_arms_panel(study, table, list(map(str, panel)), limits) for panel in panels)
    without = [arm for arm in study.arms if arm not in (*arms, study.baseline)]
    caption = style.sentences(
        f"{study.headline} on validation: arm minus {study.baseline}, same seed and epoch; the line at 0 is "
        f"{study.baseline} itself.",
        f"Left out, without an epoch in common with it: {join(without)}." if without else None,
        f"Mean and 95 % paired-t interval over n = {count_range(table['n'])} seeds; it holds at one epoch, "
        "not for a curve.",
        "Validation chose the epoch of each run, so the table on test videos decides."
        if study.protocol != "reference"
        else None,
    )
    return style.Chart("arm_curves", "Learning curves of the arms", caption, figures)


def _arms_panel(
    study: Study, table: pd.DataFrame, arms: Sequence[str], limits: tuple[float, float]
) -> Figure:
    drawing, axes = style.figure(height=3.1)
    with style.styled():
        axes.axhline(0, color=style.INK, linewidth=1)
        for place, arm in enumerate(arms):
            colour, marker = style.colour_of(study.arms, arm), style.MARKERS[place % len(style.MARKERS)]
            rows = table[table["arm"] == arm]
            axes.fill_between(
                rows["epoch"], rows["ci_low"], rows["ci_high"], color=colour, alpha=0.12, linewidth=0
            )
            axes.plot(rows["epoch"], rows["mean"], color=colour, label=arm, marker=marker, markersize=4)
        margin = 0.04 * (limits[1] - limits[0]) or 1.0
        axes.set_ylim(limits[0] - margin, limits[1] + margin)
        _finish(axes)
        axes.set_ylabel(f"{study.headline} minus {study.baseline}")
        style.legend_below(drawing, axes)
    return drawing


def _finish(axes: Axes) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("epoch")
