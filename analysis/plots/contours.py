"""What pairs of parameters do together."""

from itertools import combinations

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.tri import Triangulation

from analysis._words import count
from analysis.load import Study
from analysis.plots import style
from analysis.plots.ranges import position_ticks
from analysis.search.importance import MIN_PROPOSALS, importances
from analysis.search.proposals import Parameter, SearchRecords, search_of
from analysis.search.slices import pair_cells
from analysis.tables.table import NothingToShow

_MOST_DOTS = 400  # beyond, cells with the mean of their proposals
_CELLS = 24
_LEVELS = 9
_MOST_PARAMETERS = 3


def contours_chart(study: Study) -> style.Chart:
    """Draw every pair of the three most important parameters; raises NothingToShow if there is no pair."""
    search = search_of(study)
    complete = search.complete()
    if len(complete) < MIN_PROPOSALS:
        raise NothingToShow(
            f"a map of two parameters needs {MIN_PROPOSALS} complete proposals; there are {len(complete)}"
        )
    chosen = _chosen(search)
    figures = tuple(_panel(search, x, y) for x, y in combinations(chosen, 2))
    if len(complete) <= _MOST_DOTS:
        how = (
            "Dots are proposals; the colour between them is interpolated linearly over a triangulation, and "
            "nothing is drawn beyond it."
        )
    else:
        how = (
            f"Each of {_CELLS} × {_CELLS} cells has the mean of its proposals; cells without any stay empty. "
            "The colours span 96 % of the cells."
        )
    all_shown = len(search.parameters) <= len(chosen)
    caption = style.sentences(
        "Pairs of parameters." if all_shown else f"Pairs of the {len(chosen)} most important by fANOVA.",
        how,
        f"n = {style.count(len(complete))} complete proposals: {search.objective.label}, means over "
        f"{count(len(search.seeds), 'search seed')}.",
        "Star: the winner." if search.winner is not None else None,
        "The other parameters vary too.",
    )
    return style.Chart("contours", "Two parameters at a time", caption, figures)


def _chosen(search: SearchRecords) -> list[Parameter]:
    numeric = [
        parameter for parameter in search.parameters if not parameter.options and not parameter.conditional
    ]
    if len(numeric) < 2:
        raise NothingToShow("a map of two parameters needs two numeric ones that every proposal has")
    if len(numeric) <= _MOST_PARAMETERS:
        return numeric
    table = importances(search, evaluators=("fANOVA",), resamples=5, chance_resamples=0)
    share = table.set_index("parameter")["importance"]
    return sorted(numeric, key=lambda parameter: -share[parameter.name])[:_MOST_PARAMETERS]


def _panel(search: SearchRecords, x: Parameter, y: Parameter) -> Figure:
    complete = search.complete()
    drawing, axes = style.figure(height=2.7)
    low, high = complete["value"].min(), complete["value"].max()
    with style.styled():
        at_x, at_y = x.position(complete[x.name]), y.position(complete[y.name])
        if len(complete) <= _MOST_DOTS:
            axes.grid(visible=False)
            triangles = _triangulation(at_x, at_y)
            if triangles is not None:
                filled = axes.tricontourf(
                    triangles,
                    complete["value"],
                    levels=np.linspace(low, high, _LEVELS),
                    cmap=style.MAP,
                )
                filled.set_edgecolor("face")  # no seams between levels
            drawn: ScalarMappable = axes.scatter(
                at_x,
                at_y,
                c=complete["value"],
                cmap=style.MAP,
                vmin=low,
                vmax=high,
                s=34,
                edgecolors=style.RIM,
                linewidths=1,
            )
        else:
            cells = pair_cells(search, x, y, _CELLS)
            grid = np.full((_CELLS, _CELLS), np.nan)
            grid[cells["y_cell"], cells["x_cell"]] = cells["mean"]
            axes.grid(visible=False)
            low, high = cells["mean"].quantile([0.02, 0.98])
            drawn = axes.imshow(
                grid,
                origin="lower",
                extent=(0, 1, 0, 1),
                aspect="auto",
                cmap=style.MAP,
                vmin=low,
                vmax=high,
                interpolation="nearest",
            )
        winner = complete[complete["proposal"] == search.winner]
        axes.plot(
            x.position(winner[x.name]),
            y.position(winner[y.name]),
            "*",
            markersize=15,
            markerfacecolor=style.WINNER,
            markeredgecolor=style.RIM,
        )
        position_ticks(axes.xaxis, x)
        position_ticks(axes.yaxis, y)
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(x.label)
        axes.set_ylabel(y.label)
        bar = drawing.colorbar(drawn, ax=axes, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label(search.objective.metric)
    return drawing


def _triangulation(x: np.ndarray, y: np.ndarray) -> Triangulation | None:
    """Return the triangles between different points; None where they lie on one line."""
    try:
        return Triangulation(x, y)
    except (ValueError, RuntimeError):
        return None
