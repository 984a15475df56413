"""The ablation seed by seed: paired differences with their intervals."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis._text import decimals, signed
from analysis._words import count_range, join
from analysis.ablation import ablation_table, main_table
from analysis.conclusion import verdict
from analysis.load import Study
from analysis.plots import style
from analysis.tables.table import NothingToShow


def ablation_chart(study: Study) -> style.Chart:
    """Draw every arm's differences to what it is compared with; raises NothingToShow below two pairs."""
    table = main_table(study, ablation_table(study))
    compared = table[(table["metric"] == study.headline) & table["baseline"].notna()]
    is_paired = (compared["n"] > 1) & compared["diff"].notna()
    rows, unpaired = compared[is_paired], compared[~is_paired]
    if rows.empty:
        raise NothingToShow(
            "nothing is paired yet: no arm has two seeds that are complete both in it and in "
            f"{study.baseline}"
        )
    values = seed_values(study)
    figures = [
        _panel(study, part, values, str(against)) for against, part in rows.groupby("baseline", sort=False)
    ]
    caption = style.sentences(
        f"{study.headline} on the test videos of {study.data}: arm minus the arm in the title, seed by seed.",
        f"Dots: one seed each (n = {count_range(rows['n'])}); bar and diamond: 95 % paired-t interval and "
        "mean.",
        "Coloured where a difference is shown (interval without 0 and, in a family, Holm p below 0.05), grey "
        "where not; the intervals are not corrected for the number of arms.",
        _left_out(unpaired),
        None if study.gate is None or study.gated_seeds is None else f"Only seeds {study.gate.clause}.",
    )
    return style.Chart("ablation", "Effect of every arm, seed by seed", caption, tuple(figures))


def _left_out(rows: pd.DataFrame) -> str | None:
    """Name the comparisons that have no interval to draw."""
    names = [f"{arm} minus {against}" for arm, against in zip(rows["arm"], rows["baseline"], strict=True)]
    return f"Left out, with fewer than two pairs: {join(list(dict.fromkeys(names)))}." if names else None


def seed_values(study: Study) -> pd.DataFrame:
    """Return the headline metric on test, one row per ablation seed and one column per arm."""
    trials = study.trials
    seeds = study.main_seeds
    runs = trials[
        (trials["phase"] == "ablation")
        & trials["arm"].isin(study.arms)
        & (trials["status"] == "complete")
        & trials["seed"].isin(seeds)
    ]
    column = f"test/{study.headline}"
    if column not in runs:
        return pd.DataFrame(index=pd.Index(seeds, name="seed"), columns=list(study.arms), dtype=np.float64)
    return runs.pivot(index="seed", columns="arm", values=column).reindex(columns=list(study.arms))


def _panel(study: Study, rows: pd.DataFrame, values: pd.DataFrame, against: str) -> Figure:
    rows = rows.drop_duplicates("arm").iloc[::-1]
    digits = decimals(rows["mean"])
    drawing, axes = style.figure(height=0.8 + 0.34 * len(rows))
    with style.styled():
        axes.axvline(0, color=style.INK, linewidth=1)
        for place, (_, row) in enumerate(rows.iterrows()):
            kind = verdict(row, study.metrics[study.headline])
            colour = {"better": style.GOOD, "worse": style.BAD, "unclear": style.MUTED}[kind]
            differences = (values[row["arm"]] - values[against]).dropna()
            axes.plot(
                differences,
                _spread(len(differences)) + place,
                "o",
                color=colour,
                markersize=3.5,
                alpha=0.5,
                markeredgewidth=0,
            )
            axes.plot(
                [row["ci_low"], row["ci_high"]],
                [place, place],
                color=colour,
                linewidth=2.6,
                solid_capstyle="butt",
            )
            axes.plot(row["diff"], place, "D", color=colour, markersize=6, markeredgecolor=style.PAPER)
            axes.annotate(
                signed(row["diff"], digits),
                (1, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                color=colour,
                fontweight="bold",
                annotation_clip=False,
            )
        style.name_rows(axes, [style.wrapped(arm) for arm in rows["arm"]])
        axes.set_title(f"minus {against}")
        axes.set_xlabel(f"difference in {study.headline}")
    return drawing


def _spread(count: int) -> np.ndarray:
    """Return small offsets that keep equal values apart, the same for every arm: a seed keeps its place."""
    return np.linspace(-0.22, 0.22, count) if count > 1 else np.zeros(count)
