"""Numbers and rows of an ablation table as short text, the same for Markdown and for a terminal."""

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

import pandas as pd

from analysis._words import numbered
from analysis.ablation import MissingRuns, context_arms, missing_runs
from analysis.conclusion import chosen, verdict
from analysis.load import Study
from analysis.power import MOST_TOLD

NONE = "–"

_NOISE: Final = 1e-9  # what sums of percentages may be off 0
_TOLD_LABELS: Final = ("oracle-label windows",)  # of what needs no training


class Line(NamedTuple):
    """One row of a table, as text."""

    arm: str
    seeds: str
    mean: str
    diff: str
    interval: str
    p: str
    p_holm: str
    wins: str
    effect: str
    seeds_needed: str
    shown: bool  # the row shows a difference
    partial: bool  # wanted seeds are missing


class Section(NamedTuple):
    """Rows that are compared with the same arm."""

    title: str
    lines: list[Line]


def sections(study: Study, table: pd.DataFrame, metric: str) -> list[Section]:
    """Return the rows of one metric: against the baseline, against other arms, context."""
    rows = table[table["metric"] == metric]
    digits = decimals(rows["mean"])
    context = rows["arm"].isin(context_arms(study))
    first = ~context & (rows["baseline"].isna() | (rows["baseline"] == study.baseline))
    others = rows[~context & ~first]
    parts = [(f"against {study.baseline}", rows[first])]
    parts += [(f"against {name}", part) for name, part in others.groupby("baseline", sort=False)]
    parts += [("without training", rows[context])] if context.any() else []
    return [
        Section(title, [_line(study, row, digits) for _, row in part.iterrows()]) for title, part in parts
    ]


def _line(study: Study, row: pd.Series, digits: int) -> Line:
    wanted = row["n"] + row["n_missing"]
    compared = not math.isnan(row["diff"])
    return Line(
        arm=row["arm"],
        seeds=f"{row['n']}/{wanted} ⚠" if row["n_missing"] else str(row["n"]),
        mean=mean_sd(row, digits),
        diff=signed(row["diff"], digits) if compared else NONE,
        interval=row_interval(row, digits) if compared else NONE,
        p=p_value(row["p"]),
        p_holm=p_value(row["p_holm"]),
        wins=f"{row['wins']}/{row['n']}" if compared else NONE,
        effect=effect(row),
        seeds_needed=seeds_needed(row),
        shown=verdict(row, study.metrics[row["metric"]]) != "unclear",
        partial=row["n_missing"] > 0,
    )


def decimals(means: pd.Series) -> int:
    """Return how many decimals give the largest of some values three digits."""
    largest = means.abs().max()
    if not largest > 0:
        return 1
    return min(max(2 - math.floor(math.log10(largest)), 0), 6)


def mean_sd(row: pd.Series, digits: int) -> str:
    """Return "mean ± sd", what of it there is."""
    if math.isnan(row["mean"]):
        return NONE
    mean = number(row["mean"], digits)
    return mean if math.isnan(row["sd"]) else f"{mean} ± {number(row['sd'], digits)}"


def number(value: float, digits: int) -> str:
    """Return a value with so many decimals; one that rounds to 0 has no sign."""
    return f"{value:z.{digits}f}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign; one that rounds to 0 has none."""
    text = number(value, digits)
    return f"+{text}" if round(value, digits) > 0 else text


def row_interval(row: pd.Series, digits: int) -> str:
    """Return the interval of a row's difference: BCa's if the table was made with it."""
    kind = "bca" if "bca_low" in row else "ci"
    return interval(row[f"{kind}_low"], row[f"{kind}_high"], digits)


def interval(low: float, high: float, digits: int) -> str:
    """Return the ends of an interval; one near 0 has as many decimals as tell on which side it lies."""
    if math.isnan(low):
        return NONE
    return f"[{_end(low, digits)}, {_end(high, digits)}]"


def _end(value: float, digits: int) -> str:
    rounded = round(value, digits)
    return signed(value, digits) if rounded or abs(value) < _NOISE else f"{value:+.1g}".replace("-", "−")


def effect(row: pd.Series) -> str:
    """Return an effect size with its interval, what of them there is."""
    if pd.isna(row["effect"]):
        return NONE
    if math.isinf(row["effect"]):
        return f"{'+' if row['effect'] > 0 else '−'}∞"
    text = signed(row["effect"], 1)
    if pd.isna(row["effect_low"]):
        return text
    return f"{text} {interval(row['effect_low'], row['effect_high'], 1)}"


def seeds_needed(row: pd.Series) -> str:
    """Return the seeds needed, with their range where the interval of the effect excludes 0."""
    if pd.isna(row["effect"]):
        return NONE
    text, low, high = (
        f"> {MOST_TOLD}" if pd.isna(count) or count > MOST_TOLD else str(count)
        for count in row[["seeds_needed", "seeds_low", "seeds_high"]]
    )
    excludes_0 = row["effect_low"] > 0 or row["effect_high"] < 0
    return f"{text} ({low} to {high})" if excludes_0 and low != high else text


def p_value(p: float) -> str:
    """Return a p with enough decimals to see on which side of 0.05 it lies."""
    if math.isnan(p):
        return NONE
    return "<0.0001" if p < 0.0001 else f"{p:.2f}" if p >= 0.1 else f"{p:.4f}"


def context_name(name: str, mean: str = "") -> str:
    """Return the name of what needs no training with its mean, and what it is told, if anything."""
    told = " (told the labels of each test video)" if name in _TOLD_LABELS else ""
    return " ".join(part for part in (name, mean) if part) + told


def main_metrics(study: Study) -> list[str]:
    """Return the metrics that have a table of comparisons: the headline and those of the families."""
    return list(dict.fromkeys([study.headline, *(family.metric for family in study.families)]))


def table_title(study: Study, metric: str) -> str:
    """Return what a table of comparisons shows, and on which videos."""
    what = chosen(study) if study.protocol == "reference" else ""
    where = f", on which {what} were chosen too (protocol: reference)" if what else ""
    return f"{metric} on the test videos of {study.data}{where}"


def missing_notes(study: Study, seeds: Sequence[int]) -> list[str]:
    """Return what is missing of a selection of seeds and why, one line each."""
    notes = [_missing_note(missing) for missing in missing_runs(study, seeds)]
    if len(seeds) < study.num_seeds:
        notes.append(f"only {len(seeds)} of the {study.num_seeds} wanted seeds passed the gate")
    return notes


def _missing_note(missing: MissingRuns) -> str:
    reason = " ".join(missing.reason.split())
    reason = reason if len(reason) <= 200 else reason[:199] + "…"
    return f"{missing.arm}: {numbered('seed', missing.seeds)} missing, {reason}"


def selection_titles(study: Study) -> dict[str, str]:
    """Return a heading for each selection of seeds that has a table; empty without a gate."""
    if study.gate is None:
        return {}
    ungated = "the first seeds, whether they pass the gate or not"
    if study.gated_seeds is None:
        return {"ungated": f"{ungated} (the gate is not decided yet: {study.gate})"}
    return {"gated": f"seeds that pass the gate: {study.gate}", "ungated": ungated}
