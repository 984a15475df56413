"""The value of every proposal along one parameter at a time."""

import math

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis._words import count
from analysis.load import Study
from analysis.plots import style
from analysis.plots.ranges import parameter_x, scale_axis
from analysis.search.proposals import Parameter, SearchRecords, search_of
from analysis.search.slices import seed_noise, slices

_MOST_DOTS = 300
_MOST_TICKS = 120


def slices_chart(study: Study) -> style.Chart:
    """Draw one slice per searched parameter; raises NothingToShow if no proposal is complete."""
    search = search_of(study)
    table = slices(search)
    complete = search.complete()
    noise = seed_noise(search)
    figures = tuple(
        _panel(search, parameter, table[table["parameter"] == parameter.name], noise)
        for parameter in search.parameters
    )
    rest = len(search.proposals) - len(complete)
    shown = min(len(complete), _MOST_DOTS)
    caption = style.sentences(
        f"{search.objective.label} of {style.count(len(complete))} complete proposals, each its mean over "
        f"{count(len(search.seeds), 'search seed')}.",
        f"{shown} of them are drawn, chosen at random." if shown < len(complete) else None,
        f"Ring: the published defaults{'; star: the winner' if search.winner is not None else ''}.",
        f"Ticks at the foot: the settings of {'' if rest <= _MOST_TICKS else f'{_MOST_TICKS} of '}the "
        f"{style.count(rest)} proposals without a value (stopped, failed or running)."
        if rest
        else None,
        None
        if math.isnan(noise)
        else "Bar at the left: ± 1 standard error of such a mean (what neither seed nor proposal explains).",
        "The other parameters vary too, and the sampler went where values were good: a slice shows "
        "association, not effect.",
    )
    return style.Chart("slices", "One parameter at a time", caption, figures)


def _panel(search: SearchRecords, parameter: Parameter, table: pd.DataFrame, noise: float) -> Figure:
    drawing, axes = style.figure(height=2.0)
    valued = table[table["value"].notna()]
    special = {0: ("o", "none", 10, style.INK), search.winner: ("*", style.WINNER, 13, style.PAPER)}
    with style.styled():
        dots = valued.iloc[style.sampled(len(valued), _MOST_DOTS)]
        axes.plot(
            parameter_x(parameter, dots["setting"]),
            dots["value"],
            "o",
            color=style.SERIES[0],
            alpha=0.75 if len(dots) < 100 else 0.3,
            markersize=5 if len(dots) < 100 else 3,
            markeredgewidth=0,
        )
        unvalued = table[table["value"].isna()]
        ticks = unvalued.iloc[style.sampled(len(unvalued), _MOST_TICKS)]
        axes.plot(
            parameter_x(parameter, ticks["setting"]),
            np.full(len(ticks), 0.03),
            "|",
            color=style.MUTED,
            alpha=0.7,
            transform=axes.get_xaxis_transform(),
            markersize=6,
        )
        for proposal, (marker, face, size, edge) in special.items():
            row = valued[valued["proposal"] == proposal]
            axes.plot(
                parameter_x(parameter, row["setting"]),
                row["value"],
                marker,
                markerfacecolor=face,
                markersize=size,
                markeredgecolor=edge,
            )
        if not math.isnan(noise):
            axes.errorbar(
                0.04,
                valued["value"].mean(),
                yerr=noise,
                color=style.INK,
                linewidth=1.4,
                capsize=3,
                transform=axes.get_yaxis_transform(),
            )
        scale_axis(axes, parameter)
        axes.margins(y=0.14)
        axes.set_title(parameter.label)
        axes.set_ylabel(search.objective.metric)
    return drawing
