"""How the result moves with one setting at a time."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis._words import count
from analysis.load import Study
from analysis.plots import style
from analysis.plots.ablation import seed_values
from analysis.search.proposals import Parameter, SearchRecords, search_of
from analysis.search.sensitivity import Grid, grids
from analysis.statistics import paired_difference
from analysis.tables.grid import NO_GRID
from analysis.tables.sensitivity import sensitivity_table
from analysis.tables.table import NothingToShow


def grid_chart(study: Study) -> style.Chart:
    """Draw arms that differ in one number; raises NothingToShow if there are none, or none with two seeds."""
    found = grids(study)
    if not found:
        raise NothingToShow(NO_GRID)
    values = seed_values(study)
    panels = [_grid_panel(study, grid, values) for grid in found]
    figures = tuple(panel for panel in panels if panel is not None)
    if not figures:
        raise NothingToShow("no arm of a grid has two seeds in common with the baseline")
    caption = style.sentences(
        f"{study.headline} on the test videos of {study.data}: arm minus {study.baseline}, seed by seed.",
        "Dots: one seed each; line and bars: mean and 95 % paired-t interval, not corrected for the number "
        "of values.",
        "Values are set out in order, not to scale.",
    )
    return style.Chart("grid", "Arms on a grid", caption, figures)


def _grid_panel(study: Study, grid: Grid, values: pd.DataFrame) -> Figure | None:
    drawing, axes = style.figure(height=2.3)
    means: dict[int, float] = {}
    with style.styled():
        axes.axhline(0, color=style.INK, linewidth=1)
        for place, arm in enumerate(grid.arms.values()):
            if arm == study.baseline:
                means[place] = 0.0
                continue
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


def sensitivity_chart(study: Study) -> style.Chart:
    """Draw a search's proposals by range of each parameter, as the table of sensitivities cuts them.

    Raises NothingToShow if the study has no search with a complete proposal.
    """
    search = search_of(study)
    parts = sensitivity_table(study).long
    complete, rule = search.complete(), search.early_stopping
    figures = tuple(
        _parts_panel(search, parameter, parts[parts["parameter"] == parameter.name])
        for parameter in search.parameters
    )
    caption = style.sentences(
        f"{search.objective.label} by range of each parameter, mean and sd over proposals (each its mean "
        f"over {count(len(search.seeds), 'search seed')}).",
        f"Blue: the {style.count(len(complete))} complete ones; below, their number of a range's proposals.",
        f"Grey: all that came to epoch {rule.rungs[0]}, by their value there"
        f"{'; weak ones then stopped, so only these compare all settings' if search.num_stopped else ''}."
        if rule is not None
        else None,
        "Proposals differ in all other settings too and are not paired: a trend asks for an ablation.",
    )
    return style.Chart("sensitivity", "Sensitivity to one setting", caption, figures)


def _parts_panel(search: SearchRecords, parameter: Parameter, parts: pd.DataFrame) -> Figure:
    drawing, axes = style.figure(height=2.2)
    places = np.arange(len(parts))
    with style.styled():
        for offset, mean, sd, colour in (
            (-0.13, "early_mean", "early_sd", style.MUTED),
            (0.13, "mean", "sd", style.SERIES[0]),
        ):
            axes.errorbar(
                places + offset,
                parts[mean],
                yerr=parts[sd].fillna(0),
                fmt="o",
                color=colour,
                markersize=5,
                elinewidth=1.8,
                alpha=0.9,
            )
        for place, (_, part) in zip(places, parts.iterrows(), strict=True):
            axes.annotate(
                f"{style.count(part['complete'])}/{style.count(part['proposals'])}",
                (place, 0.02),
                xycoords=("data", "axes fraction"),
                ha="center",
                color=style.MUTED,
                fontsize=8 if len(parts) <= 6 else 7,
            )
        axes.set_xticks(places, [str(setting).replace(" to ", "\nto ") for setting in parts["setting"]])
        axes.set_xlim(-0.5, len(parts) - 0.5)
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom - 0.16 * (top - bottom), top)
        axes.grid(visible=False, axis="x")
        axes.set_title(parameter.label)
        axes.set_ylabel(search.objective.metric)
    return drawing
