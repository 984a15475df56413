"""How fast the search found its best proposal."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis._words import count
from analysis.load import Study
from analysis.plots import style
from analysis.search.proposals import search_of
from analysis.search.regret import regret

_MOST_DOTS = 400


def regret_chart(study: Study) -> style.Chart:
    """Draw the gap to the search's best value by trials and by slot-seconds."""
    search = search_of(study)
    table = regret(search)
    drawn = style.sampled(len(table), _MOST_DOTS)
    gap = (
        (table["value"] - table["value"].max()).abs()
        if search.objective.direction == "max"
        else table["value"] - table["value"].min()
    )
    seconds = table["slot_s"].iloc[-1]
    unit, size = ("s", 1) if seconds < 7200 else ("h", 3600)
    figures = (
        _panel(table["num_trials"], gap, table["regret"], drawn, "trials that have ended"),
        _panel(table["slot_s"] / size, gap, table["regret"], drawn, f"work of all slots ({unit})"),
    )
    states = search.proposals["state"].value_counts()
    others = ", ".join(f"{style.count(n)} {name}" for name, n in states.items() if name != "complete")
    caption = style.sentences(
        f"Line: how far the best complete proposal so far was from the best of this search, in "
        f"{search.objective.label}, mean over {count(len(search.seeds), 'seed')}; how good it could be is "
        "not known.",
        f"Dots: the {style.count(len(table))} complete proposals.",
        f"{len(drawn)} of them are drawn, chosen at random." if len(drawn) < len(table) else None,
        f"The others ({others}) have no value, but their trials and work count." if others else None,
        "Work is the time of recorded epochs, pretraining included.",
        "The best of many noisy means is too good; the confirmation says what remains of it.",
    )
    return style.Chart("regret", "How fast the search found its best", caption, figures)


def _panel(x: pd.Series, gap: pd.Series, line: pd.Series, drawn: np.ndarray, label: str) -> Figure:
    drawing, axes = style.figure(height=2.2)
    with style.styled():
        axes.plot(
            x.iloc[drawn],
            gap.iloc[drawn],
            "o",
            color=style.MUTED,
            alpha=0.45,
            markersize=3.5,
            markeredgewidth=0,
        )
        axes.step(x, line, where="post", color=style.SERIES[0])
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(label)
        axes.set_ylabel("gap to the best found")
    return drawing
