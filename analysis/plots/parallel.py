"""All parameters of a proposal at once: parallel coordinates, one axis below the other."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from analysis._words import count
from analysis.load import Study
from analysis.plots import style
from analysis.plots.ranges import tick_values
from analysis.search.proposals import Parameter, SearchRecords, search_of

_MOST_BEST = 40
_MOST_OTHERS = 120


def parallel_chart(study: Study) -> style.Chart:
    """Draw the proposals across all parameters; raises NothingToShow if none is complete."""
    search = search_of(study)
    complete = search.complete().sort_values("value", ascending=search.objective.direction == "max")
    rest = search.proposals[search.proposals["state"] != "complete"]
    best = complete.iloc[-_MOST_BEST:]
    others = complete.iloc[:-_MOST_BEST]
    shown = others.iloc[style.sampled(len(others), _MOST_OTHERS)]
    unvalued = rest.iloc[style.sampled(len(rest), _MOST_OTHERS)]
    drawing, axes = style.figure(height=0.9 + 0.52 * len(search.parameters))
    with style.styled():
        _axes_of(axes, search.parameters)
        _lines(axes, search, unvalued, colors=style.GRID, linewidths=0.8)
        _lines(axes, search, shown, colors=style.MUTED, linewidths=0.6, alpha=0.4)
        drawn = _lines(
            axes,
            search,
            best,
            array=best["value"].to_numpy(),
            cmap=style.MAP,
            linewidths=1.6,
            alpha=0.9,
            norm=Normalize(best["value"].min(), best["value"].max()),
        )
        winner = best[best["proposal"] == search.winner]
        _lines(axes, search, winner, colors=style.WINNER, linewidths=2.6)
        bar = drawing.colorbar(drawn, ax=axes, orientation="horizontal", pad=0.03, aspect=40, shrink=0.9)
        bar.outline.set_visible(False)
        bar.set_label(search.objective.label)
    caption = style.sentences(
        "One line is one proposal, one axis one parameter over its searched range.",
        f"Colour: {'all' if len(best) == len(complete) else 'the best'} {len(best)} of "
        f"{style.count(len(complete))} complete proposals, by their mean over "
        f"{count(len(search.seeds), 'seed')}.",
        f"Dark grey: {len(shown)} of the {style.count(len(others))} others." if len(others) else None,
        f"Light grey: {'' if len(unvalued) == len(rest) else f'{len(unvalued)} of '}the "
        f"{style.count(len(rest))} without a value (stopped, failed or running)."
        if len(rest)
        else None,
        "Where not all are drawn, they are chosen at random." if len(shown) < len(others) else None,
        "Thick: the winner." if len(winner) else None,
    )
    return style.Chart("parallel", "All parameters at once", caption, (drawing,))


def _axes_of(axes: Axes, parameters: tuple[Parameter, ...]) -> None:
    axes.set_axis_off()
    axes.set_xlim(-0.05, 1.04)
    axes.set_ylim(len(parameters) - 0.75, -0.45)
    for place, parameter in enumerate(parameters):
        axes.plot([0, 1], [place, place], color=style.MUTED, linewidth=1, zorder=3)
        axes.annotate(
            style.wrapped(parameter.label),
            (-0.03, place),  # left of the axis: on it, lines would vanish under the name
            ha="right",
            va="center",
            fontsize=8.5,
            fontweight="bold",
        )
        values = parameter.options or tuple(tick_values(parameter))
        at = _position(parameter, pd.Series(values, dtype=object if parameter.options else None))
        for x, value in zip(at, values, strict=True):
            text = str(value) if parameter.options else f"{value:g}"
            axes.plot([x, x], [place - 0.04, place + 0.04], color=style.MUTED, linewidth=1, zorder=3)
            axes.annotate(
                text,
                (x, place),
                xytext=(0, -3),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=7.5,
                color=style.MUTED,
                zorder=6,
                bbox=_halo(),
            )


def _halo() -> dict[str, object]:
    return {"boxstyle": "square,pad=0.1", "facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.85}


def _position(parameter: Parameter, settings: pd.Series) -> np.ndarray:
    position = parameter.position(settings)
    return position / (len(parameter.options) - 1) if parameter.options else position


def _lines(axes: Axes, search: SearchRecords, proposals: pd.DataFrame, **look: Any) -> LineCollection:
    at = np.array([_position(parameter, proposals[parameter.name]) for parameter in search.parameters])
    places = np.arange(len(search.parameters), dtype=np.float64)
    lines = [np.column_stack([column, places])[np.isfinite(column)] for column in at.T]
    drawn = LineCollection(lines, zorder=2, **look)
    axes.add_collection(drawn)
    return drawn
