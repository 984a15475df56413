"""The ablation as a Markdown page for a paper's supplement."""

from collections.abc import Iterable, Sequence

import pandas as pd

from analysis._text import (
    NONE,
    decimals,
    main_metrics,
    mean_sd,
    missing_notes,
    sections,
    selection_titles,
    table_title,
)
from analysis._words import setting
from analysis.ablation import context_arms
from analysis.cautions import cautions
from analysis.conclusion import chosen, conclude
from analysis.intervals import IntervalKind
from analysis.load import Study
from analysis.statistics import MAX_EXACT_N, NUM_RANDOM_FLIPS
from analysis.tables.comparisons import interval_note, power_notes
from analysis.tables.markdown import escape


def ablation_markdown(study: Study, table: pd.DataFrame, intervals: IntervalKind = "t") -> str:
    """Return the page: conclusion, cautions, tables of each selection of seeds, notes, provenance.

    `intervals` says of which kind those of the table are.
    """
    blocks = [f"# Ablation: {study.title}", conclude(study, table)]
    warnings = [caution.words for caution in cautions(study, table)]
    if warnings:
        blocks += ["## With caution", _list(map(escape, warnings))]
    titles = selection_titles(study)
    for selection, seeds in study.selections.items():
        rows = table
        if titles:
            rows = table[table["seeds"] == selection]
            blocks.append(f"## {titles[selection][0].upper()}{titles[selection][1:]}")
        for metric in main_metrics(study):
            blocks += _comparison_tables(study, rows, metric)
        blocks += ["### All metrics", "Mean ± sd over seeds.", _metric_table(study, rows)]
        notes = missing_notes(study, seeds)
        if notes:
            blocks += ["### Missing", "Left out together with their pairs:", _list(map(escape, notes))]
    blocks += ["## How the numbers are computed", _list(_notes(study, table, intervals))]
    blocks += ["## Provenance", _list(_provenance(study))]
    return "\n\n".join(blocks) + "\n"


def _comparison_tables(study: Study, table: pd.DataFrame, metric: str) -> Iterable[str]:
    yield f"### {table_title(study, metric)}"
    for section in sections(study, table, metric):
        yield f"{section.title[0].upper()}{section.title[1:]}:"
        header = (
            *("arm", "seeds", "mean ± sd", "difference", "95 % interval", "p", "p (Holm)", "wins"),
            *("effect", "seeds needed"),
        )
        lines = [
            (
                *(line.arm, line.seeds, line.mean, line.diff, line.interval, line.p, line.p_holm, line.wins),
                *(line.effect, line.seeds_needed),
            )
            for line in section.lines
        ]
        compared = any(line.diff != NONE for line in section.lines)
        yield _table(header, lines) if compared else _table(header[:3], [line[:3] for line in lines])


def _metric_table(study: Study, table: pd.DataFrame) -> str:
    digits = {metric: decimals(table.loc[table["metric"] == metric, "mean"]) for metric in study.metrics}
    # An arm's first comparison is the one with the baseline.
    cells = {
        (row["arm"], row["metric"]): mean_sd(row, digits[row["metric"]]) + (" ⚠" if row["n_missing"] else "")
        for _, row in table.drop_duplicates(["arm", "metric"]).iterrows()
    }
    arms = [*study.arms, *context_arms(study)]
    return _table(["arm", *study.metrics], [[arm, *(cells[arm, m] for m in study.metrics)] for arm in arms])


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _notes(study: Study, table: pd.DataFrame, intervals: IntervalKind) -> Iterable[str]:
    yield (
        "A row rests on the seeds that are complete in the arm and in what it is compared with; ⚠ marks a "
        f"row that lacks some of the wanted {study.num_seeds}. Nothing is filled in."
    )
    yield "mean ± sd: over seeds, sd with ddof = 1."
    yield "difference: arm minus what it is compared with, seed by seed, then averaged."
    yield "wins: seeds in which the arm is better."
    yield interval_note(table, intervals)
    yield (
        f"p: two-sided sign-flip test of the mean difference, exact up to {MAX_EXACT_N} seeds (where no p is "
        f"below 2^(1 − n)) if differences are symmetric without an effect, from {NUM_RANDOM_FLIPS} "
        "seeded random flips beyond."
    )
    for family in study.families:
        yield (
            f"p (Holm): corrected over the family “{family.name}”, {', '.join(family.arms)} against "
            f"{family.against} on {family.metric}; a comparison that could not be made counts as one. "
            "Other rows have an effect and an interval only."
        )
    yield from power_notes()
    split = "test videos (protocol: reference)" if study.protocol == "reference" else "validation videos"
    what = chosen(study)
    if what:
        tested = "; the test metrics are those of the chosen epoch" if "epochs" in what else ""
        yield f"{what.capitalize()} are chosen on {split}{tested}."
    yield "All comparisons on all metrics: ablation.csv."


def _provenance(study: Study) -> Iterable[str]:
    yield f"space: {study.name}, recipe: {study.recipe}, protocol: {study.protocol}"
    yield f"data: {study.data}, fold {study.fold}, data seed {study.data_seed}"
    yield f"data fingerprint: `{study.fingerprint}`"
    for name, seeds in study.selections.items():
        label = f" ({name})" if study.gate is not None else ""
        yield f"ablation seeds{label}: {', '.join(map(str, seeds))}"
    if study.winner is not None:
        settings = ", ".join(f"{name} = {setting(value)}" for name, value in study.winner.items())
        yield f"settings, from the search: {settings}"
    versions = [f"{name} {version}" for name, version in study.versions.items() if version is not None]
    yield f"versions: {', '.join(versions)}"
    if study.git is not None:
        changes = ", with uncommitted changes (in manifest.json)" if study.git["diff"] else ""
        yield f"source: git revision `{study.git['revision']}`{changes}"
