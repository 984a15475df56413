"""How the result moves with one setting at a time."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.load import Study
from analysis.plots import style
from analysis.plots.ablation import seed_values
from analysis.search.proposals import Parameter, SearchRecords, search_of
from analysis.search.sensitivity import Grid, grids, search_bins
from analysis.statistics import paired_difference
from analysis.tables.table import NothingToShow


def sensitivity_chart(study: Study) -> style.Chart:
    """Draw arms that differ in one number, or the proposals of a search binned by each parameter.

    Raises NothingToShow if the study has neither.
    """
    found = grids(study)
    return _of_arms(study, found) if found else _of_search(search_of(study))


def _of_arms(study: Study, found: list[Grid]) -> style.Chart:
    values = seed_values(study)
    panels = [_grid_panel(study, grid, values) for grid in found]
    figures = tuple(panel for panel in panels if panel is not None)
    if not figures:
        raise NothingToShow("no arm of a grid has two seeds in common with the baseline yet")
    caption = style.sentences(
        f"{study.headline} on the test videos of {study.data}: arm minus {study.baseline}, seed by seed.",
        "Dots: one seed each; line and bars: mean and 95 % paired-t interval, not corrected for the number "
        "of values.",
        "Values are set out in order, not to scale.",
    )
    return style.Chart("sensitivity", "Sensitivity to one setting", caption, figures)


def _grid_panel(study: Study, grid: Grid, values: pd.DataFrame) -> Figure | None:
    drawing, axes = style.figure(height=2.3)
    means = {}
    with style.styled():
        axes.axhline(0, color=style.INK, linewidth=1)
        for place, arm in enumerate(grid.arms.values()):
            pairs = values[[arm, study.baseline]].dropna()
            if len(pairs) < 2:
                axes.annotate(
                    "no pairs",
                    (place, 0),
                    xytext=(0, 4),
                    textcoords="offset points",
                    ha="center",
                    color=style.MUTED,
                    fontsize=8,
                )
                continue
            result = paired_difference(
                pairs[arm], pairs[study.baseline], direction=study.metrics[study.headline]
            )
            offsets = np.linspace(-0.16, 0.16, result.n)
            axes.plot(
                place + offsets,
                pairs[arm] - pairs[study.baseline],
                "o",
                color=style.SERIES[0],
                markersize=3.2,
                alpha=0.4,
                markeredgewidth=0,
            )
            axes.plot([place, place], [result.ci_low, result.ci_high], color=style.SERIES[0], linewidth=2.4)
            means[place] = result.mean
        axes.plot(
            list(means),
            list(means.values()),
            "D-",
            color=style.SERIES[0],
            markersize=5.5,
            linewidth=1.2,
            markeredgecolor=style.PAPER,
        )
        axes.set_xticks(range(len(grid.arms)), [f"{value:g}" for value in grid.arms])
        axes.set_xlim(-0.5, len(grid.arms) - 0.5)
        axes.grid(visible=False, axis="x")
        axes.set_xlabel(grid.parameter)
        axes.set_ylabel(f"minus {study.baseline}")
    return drawing if means else None


def _of_search(search: SearchRecords) -> style.Chart:
    bins = search_bins(search)
    if bins.empty:
        raise NothingToShow("too few proposals are complete to compare ranges of a parameter")
    figures = tuple(
        _bin_panel(search, parameter, bins[bins["parameter"] == parameter.name])
        for parameter in search.parameters
        if (bins["parameter"] == parameter.name).any()
    )
    caption = style.sentences(
        "No arms differ in one number alone, so this is what the search says.",
        f"{search.objective.label} of {style.count(len(search.complete()))} complete proposals (means over "
        f"{len(search.seeds)} search seeds) by range of each parameter; bars: 95 % t interval.",
        "Proposals differ in all other settings too and are not paired: a trend asks for an ablation.",
    )
    return style.Chart("sensitivity", "Sensitivity to one setting (from the search)", caption, figures)


def _bin_panel(search: SearchRecords, parameter: Parameter, bins: pd.DataFrame) -> Figure:
    drawing, axes = style.figure(height=2.1)
    with style.styled():
        places = np.arange(len(bins))
        for place, (_, row) in zip(places, bins.iterrows(), strict=True):
            axes.plot(
                [place, place],
                [row["ci_low"], row["ci_high"]],
                color=style.SERIES[0],
                linewidth=2.4,
                alpha=0.5,
            )
            axes.annotate(
                f"n = {row['n']}",
                (place, 0.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                color=style.MUTED,
                fontsize=8,
            )
        axes.plot(places, bins["mean"], "D", color=style.SERIES[0], markersize=6, markeredgecolor=style.PAPER)
        names = [_range(row) for _, row in bins.iterrows()]
        axes.set_xticks(places, names)
        axes.set_xlim(-0.5, len(bins) - 0.5)
        axes.margins(y=0.18)
        axes.grid(visible=False, axis="x")
        axes.set_title(parameter.label)
        axes.set_ylabel(search.objective.metric)
    return drawing


def _range(row: pd.Series) -> str:
    if row["option"] is not None:
        return str(row["option"])
    low, high = (f"{row[name]:.2g}" for name in ("low", "high"))
    return low if low == high else f"{low}–{high}"
