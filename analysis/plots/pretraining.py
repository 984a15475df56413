"""The pretrained models: how far seeds spread, what the gate keeps, and what comes of them."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis._words import join
from analysis.load import Study
from analysis.plots import style
from analysis.plots.ablation import seed_values
from analysis.search.pretraining import pretrained

_MOST_ARMS: Final = 5  # that can be told apart in one panel


def pretraining_chart(study: Study) -> style.Chart:
    """Draw the pretrained models of all seeds; raises NothingToShow if none is complete."""
    models = pretrained(study)
    metric, of_arms = models.attrs["metric"], models.attrs["group"] == "arm"
    groups = list(dict.fromkeys(models["group"]))
    names = [f"{group} (n = {(models['group'] == group).sum()})" for group in groups]
    figures = [_strip(study, models, "group", groups, names)]
    values = seed_values(study)
    start = models[models["group"] == "ablation"].set_index("seed")["value"]
    start = start[start.index.intersection(values.index)]
    shown = [] if of_arms else _arms_after(study, values.loc[start.index])
    by_seed = None
    if of_arms and study.gate is not None:
        seeds = sorted(models["seed"].unique())
        passing = set(models.loc[models["seed_passes"], "seed"])
        names = [f"seed {seed} {'passes' if seed in passing else 'fails'}" for seed in seeds]
        figures.append(_strip(study, models, "seed", seeds, names))
        by_seed = f"A seed passes if the models of all its arms do: {len(passing)} of {len(seeds)}."
    elif shown:
        figures.append(_after(study, models.attrs["metric"], start, values.loc[start.index, shown]))
    caption = style.sentences(
        f"{metric} on validation of each pretrained model (n = {len(models)}), by the "
        f"{'arm' if of_arms else 'phase whose seeds they have'}; short lines are means.",
        None
        if study.gate is None
        else f"Dashed: the gate, {study.gate.at_least:g}; {int(models['passed'].sum())} models reach it, the "
        "others are crosses.",
        by_seed,
        _words_after(study, shown) if shown else None,
    )
    return style.Chart("pretraining", "Pretrained models", caption, tuple(figures))


def _strip(
    study: Study, models: pd.DataFrame, by: str, groups: Sequence[object], names: Sequence[str]
) -> Figure:
    drawing, axes = style.figure(height=0.9 + (0.42 if by == "group" else 0.26) * len(groups))
    with style.styled():
        for place, group in enumerate(reversed(groups)):
            rows = models[models[by] == group]
            if by == "group":
                mean = rows["value"].mean()
                axes.plot([mean, mean], [place - 0.34, place + 0.34], color=style.INK, linewidth=1.6)
            spread = 0.22 if by == "group" else 0.0
            offsets = np.linspace(-spread, spread, len(rows)) if len(rows) > 1 else np.zeros(1)
            _dots(axes, rows["value"].to_numpy(), place + offsets, rows["passed"].to_numpy())
        if study.gate is not None:
            axes.axvline(study.gate.at_least, color=style.BAD, linewidth=1.3, linestyle="--")
        style.name_rows(axes, names[::-1])
        axes.set_xlabel(f"{models.attrs['metric']} on validation")
    return drawing


def _dots(axes: Axes, values: np.ndarray, places: np.ndarray, passed: np.ndarray) -> None:
    good, bad = style.SERIES[0], style.BAD
    axes.plot(values[passed], places[passed], "o", color=good, markersize=5.5, alpha=0.8, markeredgewidth=0)
    axes.plot(values[~passed], places[~passed], "x", color=bad, markersize=5.5, markeredgewidth=1.6)


def _arms_after(study: Study, values: pd.DataFrame) -> list[str]:
    """Return the arms that are drawn against the models that they start from."""
    arms = dict.fromkeys([study.baseline, *(arm for family in study.families for arm in family.arms)])
    return [arm for arm in arms if values[arm].notna().sum() > 1][:_MOST_ARMS]


def _words_after(study: Study, shown: Sequence[str]) -> str:
    others = [arm for arm in study.arms if arm not in shown]
    return style.sentences(
        "Second panel: what came of each ablation seed's model; validation and test are different videos, so "
        "the two axes differ in level.",
        f"Drawn are {study.baseline} and the arms of families that have two seeds, at most {_MOST_ARMS}; "
        f"left out: {join(others)}."
        if others
        else None,
    )


def _after(study: Study, metric: str, start: pd.Series, values: pd.DataFrame) -> Figure:
    """Draw the arms' test values by seed against those of the models that the runs start from."""
    drawing, axes = style.figure(height=2.9)
    with style.styled():
        for place, arm in enumerate(values):
            colour = style.colour_of(study.arms, str(arm))
            filling = "none" if place % 2 == 0 else colour
            axes.plot(
                start,
                values[arm],
                style.MARKERS[place],
                color=colour,
                markerfacecolor=filling,
                label=arm,
                markersize=5,
                alpha=0.85,
            )
        axes.set_xlabel(f"pretrained: {metric} on validation")
        axes.set_ylabel(f"{study.headline} on test")
        style.legend_below(drawing, axes)
    return drawing
