"""The ablation in the shape of a paper's table: components × metrics."""

from collections.abc import Iterator, Sequence
from textwrap import shorten
from typing import Any, Final

import pandas as pd

from analysis._text import decimals, mean_sd, number
from analysis._words import numbered, setting
from analysis.ablation import (
    Comparison,
    ablation_table,
    context_arms,
    main_table,
    missing_runs,
    paired_trials,
)
from analysis.conclusion import chosen, verdict
from analysis.intervals import IntervalKind
from analysis.load import Study
from analysis.tables.combine import combined_long, labels
from analysis.tables.components import components, has_component
from analysis.tables.metrics import metric_column, paper_metrics, span
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table

CONTROLS: Final = "controls"
UNTRAINED: Final = "without training"
_LONGEST: Final = 200  # signs of a reason that are told


def paper_table(*studies: Study, intervals: IntervalKind = "t") -> Table:
    """Return arms × metrics of the test videos; several studies stand side by side, with averages only.

    Raises NothingToShow if no arm of any study has a result.
    """
    tables = [ablation_table(study, intervals) for study in studies]
    if not any(table["n"].gt(0).any() for table in tables):
        raise NothingToShow("no run of the ablation has finished")
    parts = [_Part(study, table, len(studies) > 1) for study, table in zip(studies, tables, strict=True)]
    ticks = dict.fromkeys(name for study in studies for name in components(study))
    columns = [Column("arm", align="left"), *(Column(name, align="center") for name in ticks)]
    names = labels(studies)
    long = [_with_reasons(study, table) for study, table in zip(studies, tables, strict=True)]
    for study, name, part in zip(studies, names, parts, strict=True):
        if len(studies) == 1:
            columns += [Column("seeds"), *map(metric_column, part.metrics)]
        else:
            columns += [Column(head, group=name, study=str(study.store)) for head in ("seeds", *part.metrics)]
    rows = []
    for section, arm in _arms(studies):
        first = next(study for study in studies if arm in (*study.arms, *context_arms(study)))
        cells = [Cell(arm), *(_tick(first, arm, tick) for tick in ticks)]
        for part in parts:
            cells += part.cells(arm)
        rows.append(Row(tuple(cells), section))
    return Table(
        name="ablation",
        title=f"Ablation on the test videos of {'; '.join(names)}",
        columns=tuple(columns),
        rows=tuple(rows),
        long=long[0] if len(studies) == 1 else combined_long(studies, long),
        notes=tuple(_notes(studies, names, bool(ticks))),
    )


class _Part:
    """The cells of one study."""

    def __init__(self, study: Study, table: pd.DataFrame, averages_only: bool) -> None:
        self.study = study
        self.metrics = paper_metrics(study, averages_only=averages_only)
        self._seeds = study.main_seeds
        main = main_table(study, table)
        # An arm's first comparison is the one with the baseline, in a family if it belongs to one.
        self._rows = {
            (row["arm"], row["metric"]): row
            for _, row in main.drop_duplicates(["arm", "metric"]).iterrows()
            if row["metric"] in self.metrics
        }
        self._digits = {
            metric: decimals(main.loc[main["metric"] == metric, "mean"]) for metric in self.metrics
        }
        self._context = context_arms(study)
        self._best = {metric: self._best_text(metric) for metric in self.metrics}

    def cells(self, arm: str) -> list[Cell]:
        """Return the number of seeds and the metrics of an arm."""
        if arm not in (*self.study.arms, *self._context):
            return [Cell("", missing="not an arm of this study")] * (1 + len(self.metrics))
        row = self._rows[arm, self.study.headline]
        return [self._seeds_cell(arm, row), *(self._cell(arm, metric) for metric in self.metrics)]

    def _seeds_cell(self, arm: str, row: pd.Series) -> Cell:
        n, wanted = int(row["n"]), int(row["n"] + row["n_missing"])
        trials = self._trials(arm, self.study.headline)
        if n == wanted:
            return Cell(str(n), float(n), trials)
        return Cell(f"{n} of {wanted}", float(n), trials, missing=self._reason(arm))

    def _cell(self, arm: str, metric: str) -> Cell:
        row = self._rows[arm, metric]
        if not row["n"]:
            return Cell("", missing=self._reason(arm))
        text = self._text(row, metric)
        shown = "unclear" if pd.isna(row["p_holm"]) else verdict(row, self.study.metrics[metric])
        return Cell(
            text,
            float(row["mean"]),
            self._trials(arm, metric),
            best=self._is_candidate(arm, row) and text.partition(" ")[0] == self._best[metric],
            significant=None if shown == "unclear" else shown,
        )

    def _text(self, row: pd.Series, metric: str) -> str:
        own = span(metric)
        # Single tIoUs without their sd, as papers print them: as many columns more would not fit a page.
        text = mean_sd(row, self._digits[metric])
        return text.partition(" ")[0] if own and not own.is_average else text

    def _is_candidate(self, arm: str, row: pd.Series) -> bool:
        """Whether an arm may be the best: trained, and on all seeds, since others would not compare."""
        return arm not in self._context and row["n"] > 0 and not row["n_missing"]

    def _best_text(self, metric: str) -> str | None:
        rows = [(arm, self._rows[arm, metric]) for arm in self.study.arms]
        means = [row["mean"] for arm, row in rows if self._is_candidate(arm, row)]
        if len(means) < 2:
            return None
        best = max(means) if self.study.metrics[metric] == "max" else min(means)
        return number(best, self._digits[metric])

    def _trials(self, arm: str, metric: str) -> tuple[int, ...]:
        is_alone = arm == self.study.baseline or arm in self._context
        comparison = Comparison(arm, None if is_alone else self.study.baseline)
        return paired_trials(self.study, self._seeds, comparison, metric).arm

    def _reason(self, arm: str) -> str:
        return _reason(self.study, self._seeds, (arm, self.study.baseline))


def _reason(study: Study, seeds: Sequence[int], arms: Sequence[str]) -> str:
    """Say which runs a comparison lacks, of either of its arms."""
    told = []
    for missing in missing_runs(study, seeds):
        if missing.arm in arms:
            reason = shorten(missing.reason, _LONGEST, placeholder=" …")
            told.append(f"{missing.arm}: {numbered('seed', missing.seeds)} {reason}")
    if len(seeds) < study.num_seeds:
        told.append(f"only {len(seeds)} of {study.num_seeds} seeds passed the gate")
    return "; ".join(told) or f"{arms[0]}: not all seeds have been evaluated yet"


def _with_reasons(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Return the long form with why seeds are missing, where some are."""
    selections = study.selections
    main = next(iter(selections))
    reasons: dict[tuple[str, str, str], str] = {}

    def reason(row: Any) -> str:
        if not row.n_missing:
            return ""
        against = row.baseline if isinstance(row.baseline, str) else row.arm
        selection = row.seeds if study.gate is not None else main
        key = (selection, row.arm, against)
        if key not in reasons:
            reasons[key] = _reason(study, selections[selection], (row.arm, against))
        return reasons[key]

    return table.assign(missing=[reason(row) for row in table.itertuples(index=False)])


def _arms(studies: Sequence[Study]) -> Iterator[tuple[str | None, str]]:
    """Yield (section, arm) of all studies: arms, controls, what needs no training."""
    controls = dict.fromkeys(arm for study in studies for arm in study.controls)
    arms = dict.fromkeys(arm for study in studies for arm in study.arms)
    context = dict.fromkeys(arm for study in studies for arm in context_arms(study))
    yield from ((None, arm) for arm in arms if arm not in controls)
    yield from ((CONTROLS, arm) for arm in controls)
    yield from ((UNTRAINED, arm) for arm in context)


def _tick(study: Study, arm: str, component: str) -> Cell:
    parameters = components(study)
    if arm not in study.arms or component not in parameters:
        return Cell("")
    tick = "(✓)" if arm in study.controls else "✓"
    return Cell(tick if has_component(study, arm, parameters[component]) else "")


def _notes(studies: Sequence[Study], names: Sequence[str], has_ticks: bool) -> Iterator[str]:
    yield "Mean over paired seeds, ± sd with ddof = 1 where it is printed; nothing is filled in."
    has_controls = any(study.controls for study in studies)
    if has_ticks:
        in_brackets = (
            "; in brackets in controls, which change what it is computed from" if has_controls else ""
        )
        yield f"✓: the loss is trained with, its weight is not 0{in_brackets}."
    for study, name in zip(studies, names, strict=True):
        where = f"{name}. " if len(studies) > 1 else ""
        if study.controls:
            told = "; ".join(_control(study, arm) for arm in study.controls)
            yield f"{where}What sets controls apart: {told}."
        for family in study.families:
            if family.against != study.baseline:
                continue
            yield (
                f"{where}Tested are {', '.join(family.arms)} against {family.against} on {family.metric} "
                "(sign-flip test, exact if differences are symmetric without an effect; Holm); the other "
                "cells are not tested."
            )
        if study.gate is not None and study.gated_seeds is not None:
            yield f"{where}Only seeds count {study.gate.clause}."
        what = chosen(study) if study.protocol == "reference" else ""
        if what:
            yield (
                f"{where}{what.capitalize()} were chosen on these test videos, which inflates every "
                "trained row."
            )
    yield from _differing(studies)


def _control(study: Study, arm: str) -> str:
    settings = study.manifest["space"]["arms"][arm]
    told = ", ".join(f"{name.rpartition('.')[2]} = {setting(value)}" for name, value in settings.items())
    return f"{arm}, {told or 'no setting of its own'}"


def _differing(studies: Sequence[Study]) -> Iterator[str]:
    """Yield the arms that have one name and several meanings."""
    meanings: dict[str, list[object]] = {}
    for study in studies:
        for arm, settings in study.manifest["space"]["arms"].items():
            meanings.setdefault(arm, []).append(settings)
    for arm, found in meanings.items():
        if any(settings != found[0] for settings in found):
            yield f"{arm} does not have the same settings in all of these studies."
