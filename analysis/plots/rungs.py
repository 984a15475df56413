"""Who was stopped at which rung, and against which threshold."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.load import Study
from analysis.plots import style
from analysis.search.proposals import SearchRecords, search_of
from analysis.search.rungs import rung_counts, rungs

_MOST_PANELS = 4
_MOST_DOTS = 400


def rungs_chart(study: Study) -> style.Chart:
    """Draw how many runs each rung stopped, and every decision; raises NothingToShow without rungs."""
    search = search_of(study)
    rule = search.early_stopping
    decisions = rungs(search)
    assert rule is not None
    groups = list(decisions.groupby(["seed", "epoch"]))
    figures = [_counts(rung_counts(decisions))]
    figures += [_panel(search, group) for _, group in groups[:_MOST_PANELS]]
    agreeing = int(decisions["agrees"].sum())
    crowded = max(len(group) for _, group in groups) > _MOST_DOTS
    caption = style.sentences(
        f"A run goes on if its best value so far is among the best {rule.keep:.0%} of those of its seed that "
        f"came to the rung before it, once {rule.at_least} have.",
        "Step line: the value that this asked for; cross: stopped; dot: went on.",
        None if search.batch is not None else "The order of arrival is estimated from start and epoch times.",
        f"{style.count(agreeing)} of {style.count(len(decisions))} decisions on record follow from the "
        "thresholds drawn.",
        f"{_MOST_PANELS} of {len(groups)} seeds and rungs are shown." if len(groups) > _MOST_PANELS else None,
        f"Of many runs {_MOST_DOTS} are drawn, chosen at random." if crowded else None,
    )
    return style.Chart("rungs", "Early stopping at the rungs", caption, tuple(figures))


def _counts(counts: pd.DataFrame) -> Figure:
    counts = counts.iloc[::-1].reset_index(drop=True)
    drawing, axes = style.figure(height=0.85 + 0.3 * min(len(counts), 12))
    if len(counts) > 12:
        counts = counts.groupby("epoch")[["reached", "stopped", "went_on"]].sum().reset_index().iloc[::-1]
        names = [f"epoch {epoch}" for epoch in counts["epoch"]]
    else:
        names = [
            f"seed {seed}, epoch {epoch}" for seed, epoch in zip(counts["seed"], counts["epoch"], strict=True)
        ]
    with style.styled():
        places = range(len(counts))
        axes.barh(places, counts["went_on"], color=style.SERIES[0], height=0.62, label="went on")
        axes.barh(
            places, counts["stopped"], left=counts["went_on"], color=style.BAD, height=0.62, label="stopped"
        )
        for place, (_, row) in zip(places, counts.iterrows(), strict=True):
            axes.annotate(
                style.count(int(row["stopped"])),
                (row["reached"], place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=style.BAD,
                fontsize=8.5,
            )
        axes.set_yticks(places, names)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("runs that reached the rung")
        style.legend_below(drawing, axes)
    return drawing


def _panel(search: SearchRecords, decisions: pd.DataFrame) -> Figure:
    drawing, axes = style.figure(height=2.3)
    dots = decisions.iloc[style.sampled(len(decisions), _MOST_DOTS)]
    with style.styled():
        axes.step(
            dots["order"], dots["threshold"], where="mid", color=style.INK, linewidth=1.3, label="threshold"
        )
        for stopped, marker, colour in ((False, "o", style.SERIES[0]), (True, "x", style.BAD)):
            rows = dots[dots["stopped"] == stopped]
            axes.plot(
                rows["order"],
                rows["value"],
                marker,
                color=colour,
                markersize=4.5 if len(dots) < 200 else 2.5,
                alpha=0.9 if len(dots) < 200 else 0.5,
                markeredgewidth=1.5 if stopped else 0,
            )
        num_stopped, first = int(decisions["stopped"].sum()), decisions.iloc[0]
        style.title(
            axes,
            f"seed {first['seed']}, after epoch {first['epoch']}",
            f"{style.count(num_stopped)} of {style.count(len(decisions))} stopped",
        )
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel("runs in order of arrival")
        axes.set_ylabel(search.objective.metric)
    return drawing
