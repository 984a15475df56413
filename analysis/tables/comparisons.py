"""Every comparison of the ablation with its statistics: difference, interval, p, effect size, power."""

from collections.abc import Iterator
from typing import Final

import pandas as pd

from analysis._text import (
    decimals,
    effect,
    main_metrics,
    mean_sd,
    p_value,
    row_interval,
    seeds_needed,
    signed,
)
from analysis.ablation import Comparison, ablation_table, context_arms, main_table, paired_trials
from analysis.conclusion import verdict
from analysis.intervals import IntervalKind, coverage_at, measured_n
from analysis.load import Study
from analysis.power import POWER
from analysis.statistics import MAX_EXACT_N
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table

_NAMES: Final = {"t": "paired t", "bca": "BCa"}


def comparisons_table(*studies: Study, intervals: IntervalKind = "t") -> Table:
    """Return arms × statistics of their paired difference, on the headline metric and those of families.

    Several studies stand side by side. Raises NothingToShow if no two runs of any study can be paired.
    """
    return side_by_side(studies, lambda study: _table(study, intervals))


def _table(study: Study, intervals: IntervalKind) -> Table:
    table = main_table(study, ablation_table(study, intervals))
    metrics = main_metrics(study)
    shown = table[table["metric"].isin(metrics) & ~table["arm"].isin(context_arms(study))]
    compared = shown[shown["baseline"].notna()]
    if not compared["n"].gt(0).any():
        raise NothingToShow("no seed is complete in two arms")
    rows = []
    for (metric, against), part in compared.groupby(["metric", "baseline"], sort=False):
        digits = decimals(shown.loc[shown["metric"] == metric, "mean"])
        section = f"against {against}" if len(metrics) == 1 else f"{metric} against {against}"
        rows += [Row(tuple(_cells(study, row, digits)), section) for _, row in part.iterrows()]
    return Table(
        name="comparisons",
        title=f"Paired differences, {' and '.join(metrics)} on the test videos: {study.name} on {study.data}",
        columns=(
            Column("arm", align="left"),
            *map(Column, ("pairs", "mean ± sd", "difference", "95 % interval", "p", "p (Holm)")),
            Column("effect"),
            Column("seeds needed"),
            Column("wins"),
        ),
        rows=tuple(rows),
        long=table,
        notes=tuple(_notes(study, compared, intervals)),
    )


def _cells(study: Study, row: pd.Series, digits: int) -> Iterator[Cell]:
    n, wanted = int(row["n"]), int(row["n"] + row["n_missing"])
    comparison = Comparison(row["arm"], row["baseline"])
    trials = paired_trials(study, study.main_seeds, comparison, row["metric"])
    short = f"{wanted - n} of {wanted} pairs of {row['arm']} and {row['baseline']} are not complete"
    yield Cell(row["arm"])
    pairs = str(n) if n == wanted else f"{n} of {wanted}"
    yield Cell(pairs, n, trials.both, None if n == wanted else short)
    if not n:
        yield from [Cell("", missing=short)] * 8
        return
    shown = "unclear" if pd.isna(row["p_holm"]) else verdict(row, study.metrics[row["metric"]])
    yield Cell(mean_sd(row, digits), float(row["mean"]), trials.arm)
    yield Cell(
        signed(row["diff"], digits),
        float(row["diff"]),
        trials.both,
        significant=None if shown == "unclear" else shown,
    )
    if n < 2:
        yield from [Cell("", trials=trials.both, missing="one pair tells no spread")] * 5
    else:
        yield Cell(row_interval(row, digits), trials=trials.both)
        for name in ("p", "p_holm"):
            yield Cell(p_value(row[name]), None if pd.isna(row[name]) else float(row[name]), trials.both)
        yield Cell(effect(row), None if pd.isna(row["effect"]) else float(row["effect"]), trials.both)
        needed = row["seeds_needed"]
        yield Cell(seeds_needed(row), None if pd.isna(needed) else float(needed), trials.both)
    yield Cell(f"{row['wins']}/{n}", int(row["wins"]), trials.both)


def _notes(study: Study, rows: pd.DataFrame, intervals: IntervalKind) -> Iterator[str]:
    yield (
        "difference: arm minus what it is compared with, seed by seed, then averaged; wins: the seeds in "
        "which it is better."
    )
    yield interval_note(rows, intervals)
    yield (
        f"p: two-sided sign-flip test of the mean difference, exact up to {MAX_EXACT_N} seeds if "
        "differences are symmetric without an effect; only where a family plans the comparison."
    )
    for family in study.families:
        yield f"p (Holm): corrected over “{family.name}”, {', '.join(family.arms)} against {family.against}."
    yield from power_notes()


def power_notes() -> Iterator[str]:
    """Yield what effect sizes and seeds needed mean."""
    yield (
        "effect: mean difference in units of its own sd over seeds (Hedges's g_z) with its 95 % interval; "
        "not to be compared with the d of independent groups."
    )
    yield (
        f"seeds needed: for {100 * POWER:.0f} % power if the true effect were the observed one, within a "
        "family at the strictest step of Holm's; in brackets if it were an end of its interval, left out "
        "where that holds 0 and any number may be needed. For planning."
    )


def interval_note(rows: pd.DataFrame, intervals: IntervalKind) -> str:
    """Return what kind of interval a table has, and how often such ones hold the true mean at this n."""
    counts = rows.loc[rows["n"] > 1, "n"]
    text = f"95 % interval: {_NAMES[intervals]}, not corrected for the number of rows"
    rest = " What counts as shown rests on paired-t intervals all the same." if intervals == "bca" else ""
    if counts.empty:
        return f"{text}.{rest}"
    n = measured_n(int(counts.min()))
    nearest = "" if n == counts.min() else f" (the nearest n below {counts.min()} that was measured)"
    normal, skewed = (100 * coverage_at(n, intervals, shape) for shape in ("normal", "skewed"))
    return (
        f"{text}; of such intervals of {n} normal differences{nearest} {normal:.0f} % held the true mean "
        f"when measured, of skewed ones {skewed:.0f} %.{rest}"
    )
