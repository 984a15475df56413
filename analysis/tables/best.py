"""The best configurations of a search: what they are and what became of their values on new seeds."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis._text import NONE, decimals, mean_sd
from analysis._words import count
from analysis.load import Study
from analysis.search.proposals import SearchRecords, search_of
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, Row, Table

_MOST: Final = 3
_DEFAULTS: Final = 0  # the proposal that the search starts with: the published settings


def best_table(*studies: Study) -> Table:
    """Return settings × the best proposals of the search, beside the published defaults.

    Several studies stand side by side, with the winner and the defaults of each. Raises NothingToShow if
    no study has a search with a complete proposal.
    """
    return side_by_side(studies, lambda study: _table(study, with_others=len(studies) == 1))


def _table(study: Study, *, with_others: bool) -> Table:
    search = search_of(study)
    proposals = search.complete().set_index("proposal")
    confirmed = _confirmations(search)
    ranked = _ranked(search, proposals["value"], confirmed)
    shown = ranked[: _MOST if with_others else 1]
    if search.winner is not None and search.winner not in shown:
        shown = [search.winner, *shown][: max(len(shown), 1)]
    if _DEFAULTS in search.proposals["proposal"].to_numpy() and _DEFAULTS not in shown:
        shown.append(_DEFAULTS)
    return Table(
        name="best",
        title=f"Best configurations: {study.name} on {study.data}",
        columns=(
            Column("", align="left"),
            *(Column(_head(search, proposal, with_others)) for proposal in shown),
        ),
        rows=(*_value_rows(search, proposals["value"], confirmed, shown), *_setting_rows(search, shown)),
        long=_long(search, confirmed),
        notes=tuple(_notes(search, proposals, confirmed)),
    )


def _confirmations(search: SearchRecords) -> pd.DataFrame:
    """Return the complete runs of proposals on further seeds: trial, seed, proposal, value."""
    trials = search.study.trials
    column = search.objective.column
    runs = trials[(trials["phase"] == "confirm") & trials["proposal"].notna()]
    if column not in runs:
        return pd.DataFrame({name: [] for name in ("trial", "seed", "proposal", "value")})
    runs = runs[(runs["status"] == "complete") & runs[column].notna()]
    found = runs[["trial", "seed", "proposal", column]].rename(columns={column: "value"})
    return found.astype({"proposal": np.int64})


def _ranked(search: SearchRecords, found: pd.Series, confirmed: pd.DataFrame) -> list[int]:
    """Return the complete proposals, best first: by all seeds of those with most of them, then the others."""
    runs = search.runs[search.runs["proposal"].isin(found.index)]
    pooled = pd.concat([runs[["proposal", "value"]], confirmed[["proposal", "value"]]]).groupby("proposal")
    frame = pd.DataFrame(
        {"n": pooled["value"].count(), "mean": pooled["value"].mean() * search.objective.sign}
    )
    frame = frame.loc[frame.index.isin(found.index)]
    ranked = frame.reset_index().sort_values(["n", "mean", "proposal"], ascending=[False, False, True])
    return [int(proposal) for proposal in ranked["proposal"]]


def _head(search: SearchRecords, proposal: int, with_number: bool) -> str:
    told = {search.winner: "winner", _DEFAULTS: "defaults"}.get(proposal)
    if told and not with_number:
        return told
    return f"{told} (#{proposal})" if told else f"#{proposal}"


def _value_rows(
    search: SearchRecords, found: pd.Series, confirmed: pd.DataFrame, shown: list[int]
) -> Iterator[Row]:
    section = f"{search.objective.metric}, {search.objective.split}"
    digits = decimals(found)
    for label, runs in (("search", search.runs.dropna(subset="value")), ("confirmation", confirmed)):
        yield Row((Cell(label), *(_mean(search, runs, proposal, digits) for proposal in shown)), section)
    ranks = (found * search.objective.sign).rank(ascending=False, method="min")
    cells = [
        Cell(f"{ranks[proposal]:.0f} of {len(found)}", float(ranks[proposal]))
        if proposal in found.index
        else Cell(NONE)
        for proposal in shown
    ]
    yield Row((Cell("rank in the search"), *cells), section)


def _mean(search: SearchRecords, runs: pd.DataFrame, proposal: int, digits: int) -> Cell:
    own = runs[runs["proposal"] == proposal]
    if own.empty:
        searched = search.runs[search.runs["proposal"] == proposal]
        stopped = int((searched["status"] == "stopped").sum())
        reason = (
            f"stopped early on {stopped} of {len(searched)} seeds" if stopped else "not among the confirmed"
        )
        return Cell("", missing=reason)
    mean = float(own["value"].mean())
    row = pd.Series({"mean": mean, "sd": own["value"].std(ddof=1)})
    return Cell(mean_sd(row, digits), mean, _numbers(own))


def _setting_rows(search: SearchRecords, shown: list[int]) -> Iterator[Row]:
    proposals = search.proposals.set_index("proposal")
    trials = {p: _numbers(search.runs[search.runs["proposal"] == p]) for p in shown}
    for parameter in search.parameters:
        cells = [_setting(proposals.loc[p, parameter.name], trials[p]) for p in shown]
        yield Row((Cell(parameter.label), *cells), "settings")


def _setting(value: Any, trials: tuple[int, ...]) -> Cell:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return Cell("", trials=trials, missing="not searched beside the proposal's other settings")
    if isinstance(value, float):
        return Cell(f"{value:.3g}", value, trials)
    return Cell(str(value), trials=trials)


def _numbers(runs: pd.DataFrame) -> tuple[int, ...]:
    return tuple(int(trial) for trial in runs["trial"])


def _long(search: SearchRecords, confirmed: pd.DataFrame) -> pd.DataFrame:
    proposals = search.proposals.set_index("proposal")
    by_proposal = confirmed.groupby("proposal")["value"]
    return proposals.assign(
        confirmed_value=by_proposal.mean(),
        num_confirmed=by_proposal.count(),
        is_winner=proposals.index == (-1 if search.winner is None else search.winner),
    ).reset_index()


def _notes(search: SearchRecords, proposals: pd.DataFrame, confirmed: pd.DataFrame) -> Iterator[str]:
    seeds = len(search.seeds)
    total = len(search.proposals)
    yield (
        f"search: mean ± sd over {count(seeds, 'seed')} that all {total} proposals ran on, "
        f"{len(proposals)} of them to the end on every one."
    )
    if len(confirmed):
        again = int(confirmed["seed"].nunique())
        yield (
            f"confirmation: the best ones again on {count(again, 'new seed')}. The level of other seeds is "
            "another, so only compare within a row; the best of many in the search was chosen partly by luck "
            "(winner's curse)."
        )
        yield "Ranked by the mean over all seeds of both."
    else:
        yield "Nothing has been confirmed on new seeds, so these values are too good (winner's curse)."
    if search.objective.split == "test":
        yield "The search saw the test videos (protocol: reference): these values are no test results."
    if _DEFAULTS in set(search.proposals["proposal"]):
        yield f"defaults (#{_DEFAULTS}): the published settings, which the search starts with."
