"""A parameter on a grid of arms: one row per value, each paired by seed with the baseline."""

from collections.abc import Iterator
from typing import Final

import pandas as pd

from analysis._text import NONE, decimals, mean_sd, number, p_value, row_interval, signed
from analysis.ablation import Comparison, PairedTrials, ablation_table, main_table, paired_trials
from analysis.conclusion import verdict
from analysis.intervals import IntervalKind
from analysis.load import Study
from analysis.search.sensitivity import Grid, grids
from analysis.tables.combine import side_by_side
from analysis.tables.comparisons import interval_note
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table

NO_GRID: Final = "no three arms of this study differ in one number only"


def grid_table(*studies: Study, intervals: IntervalKind = "t") -> Table:
    """Return values of a parameter × headline metric and paired difference, for arms that differ in it only.

    Several studies stand side by side. Raises NothingToShow if no study has results of such arms.
    """
    return side_by_side(studies, lambda study: _table(study, intervals))


def _table(study: Study, intervals: IntervalKind) -> Table:
    found = grids(study)
    if not found:
        raise NothingToShow(NO_GRID)
    table = main_table(study, ablation_table(study, intervals))
    table = table[table["metric"] == study.headline]
    if not table["n"].gt(0).any():
        raise NothingToShow("no run of the ablation has finished")
    digits = decimals(table["mean"])
    references = {grid.parameter: _reference(study, grid) for grid in found}
    with_second = any(against != study.baseline for against in references.values())
    rows, parts = [], []
    for grid in found:
        against = references[grid.parameter]
        section = grid.parameter
        if with_second:
            section += f", tested against {against}"
        best = _best(study, table, grid, digits)
        for value, arm in grid.arms.items():
            own = table[table["arm"] == arm]
            first = own.iloc[0]  # an arm's first comparison is the one with the baseline
            cells = [Cell(f"{value:g}"), *_own_cells(study, first, digits, best)]
            cells += _difference_cells(study, first, digits)
            if with_second:
                other = own[own["baseline"] == against]
                cells += _difference_cells(study, other.iloc[0], digits) if len(other) else [Cell(NONE)] * 3
            rows.append(Row(tuple(cells), section))
            parts.append(own.assign(parameter=grid.parameter, value=value))
    differences = ("difference", "95 % interval", "p (Holm)")
    return Table(
        name="grid",
        title=f"Arms on a grid, {study.headline} on the test videos: {study.name} on {study.data}",
        columns=(
            Column("value", align="left"),
            Column("seeds"),
            Column("mean ± sd"),
            *(Column(name, group=f"from {study.baseline}") for name in differences),
            *(Column(name, group="within the grid") for name in differences if with_second),
        ),
        rows=tuple(rows),
        long=pd.concat(parts, ignore_index=True),
        notes=tuple(_notes(study, table, with_second, intervals)),
    )


def _reference(study: Study, grid: Grid) -> str:
    """Return what the arms of a grid are tested against: an arm of their own, or the baseline."""
    arms = set(grid.arms.values())
    return next(
        (
            family.against
            for family in study.families
            if family.metric == study.headline and family.against in arms and arms.issuperset(family.arms)
        ),
        study.baseline,
    )


def _best(study: Study, table: pd.DataFrame, grid: Grid, digits: int) -> str | None:
    """Return the best mean as it is printed: of arms that print the same, none is better."""
    rows = table[table["arm"].isin(grid.arms.values())].drop_duplicates("arm")
    means = rows.loc[(rows["n"] > 0) & (rows["n_missing"] == 0), "mean"]
    if len(means) < 2:
        return None
    return number(means.max() if study.metrics[study.headline] == "max" else means.min(), digits)


def _own_cells(study: Study, row: pd.Series, digits: int, best: str | None) -> Iterator[Cell]:
    n, wanted = int(row["n"]), int(row["n"] + row["n_missing"])
    trials = _trials(study, row).arm
    reason = None if n == wanted else _reason(row)
    yield Cell(str(n) if n == wanted else f"{n} of {wanted}", n, trials, reason)
    if n:
        is_best = n == wanted and number(row["mean"], digits) == best
        yield Cell(mean_sd(row, digits), float(row["mean"]), trials, best=is_best)
    else:
        yield Cell("", missing=reason)


def _difference_cells(study: Study, row: pd.Series, digits: int) -> list[Cell]:
    """Return difference, interval and corrected p of a comparison; of one with itself, nothing."""
    if pd.isna(row["baseline"]):
        return [Cell(NONE)] * 3
    if not row["n"]:
        return [Cell("", missing=_reason(row))] * 3
    trials = _trials(study, row).both
    shown = "unclear" if pd.isna(row["p_holm"]) else verdict(row, study.metrics[study.headline])
    significant = None if shown == "unclear" else shown
    p = row["p_holm"]
    return [
        Cell(
            signed(row["diff"], digits),
            float(row["diff"]),
            trials,
            missing=_reason(row) if row["n_missing"] else None,
            significant=significant,
        ),
        Cell(row_interval(row, digits), trials=trials),
        Cell(p_value(p), None if pd.isna(p) else float(p), trials),
    ]


def _trials(study: Study, row: pd.Series) -> PairedTrials:
    against = row["baseline"] if pd.notna(row["baseline"]) else None
    return paired_trials(study, study.main_seeds, Comparison(row["arm"], against), study.headline)


def _reason(row: pd.Series) -> str:
    wanted = row["n"] + row["n_missing"]
    if pd.isna(row["baseline"]):
        return f"{row['n_missing']} of {wanted} seeds of {row['arm']} are not complete"
    return f"{row['n_missing']} of {wanted} pairs of {row['arm']} and {row['baseline']} are not complete"


def _notes(study: Study, table: pd.DataFrame, with_second: bool, intervals: IntervalKind) -> Iterator[str]:
    yield ("The arms of a part differ in this parameter alone. difference: seed by seed, then averaged.")
    yield interval_note(table, intervals)
    if with_second:
        yield "within the grid: difference from the arm that the part is tested against."
    arms = {arm for grid in grids(study) for arm in grid.arms.values()}
    for family in study.families:
        if arms.isdisjoint(family.arms):
            continue
        yield f"p (Holm) within “{family.name}”: {', '.join(family.arms)} against {family.against}."
