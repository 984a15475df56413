"""Who was stopped where, and against which threshold (asynchronous successive halving by seed).

A rung compares a run with the others of its seed that had reached it before: it goes on while fewer than
k = ceil(keep · (others + 1)) of them are better, so its threshold is the k-th best of their values
(study/rungs.py, study/design.py; after Li et al. 2020, arXiv 1810.05934). A value is the best one up to the
rung's epoch. The records do not say in which order runs reached a rung. It is exact where a search asks in
batches (only earlier batches count), else estimated from start and epoch times; `agrees` says whether the
decision that follows is the one on record.
"""

import math
from bisect import insort
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from analysis.search.proposals import EarlyStopping, SearchRecords
from analysis.tables.table import NothingToShow

COLUMNS = (
    "seed",
    "epoch",
    "order",
    "trial",
    "proposal",
    "value",
    "num_others",
    "threshold",
    "stopped",
    "expected",
    "agrees",
)


class _Run(NamedTuple):
    trial: int
    proposal: int
    value: float
    stopped: bool


def rungs(search: SearchRecords) -> pd.DataFrame:
    """Return one row per run and rung that it reached, in the (estimated) order of arrival.

    `threshold` is what a run had to reach, nan where nothing could be stopped yet; `stopped` what the record
    says, `expected` what the threshold says. Raises NothingToShow if the search stops nothing early.
    """
    rule = search.early_stopping
    if rule is None:
        raise NothingToShow("this study's search runs every proposal to its end: it has no rungs")
    reached = _reached(search, rule.rungs)
    if reached.empty:
        raise NothingToShow(f"no run of the search has reached the first rung, epoch {min(rule.rungs)}")
    rows: list[tuple[object, ...]] = []
    for (seed, epoch), group in reached.groupby(["seed", "epoch"]):
        group = group.sort_values(["reached_at", "trial"], kind="stable")
        arrivals = list(
            map(
                _Run,
                group["trial"],
                group["proposal"],
                group["best"] * search.objective.sign,
                group["stopped"],
            )
        )
        for order, (run, others, threshold) in enumerate(_thresholds(arrivals, rule, search.batch), 1):
            expected = not math.isnan(threshold) and run.value < threshold
            value, needed = run.value * search.objective.sign, threshold * search.objective.sign
            known = (seed, epoch, order, run.trial, run.proposal, value, others, needed)
            rows.append((*known, run.stopped, expected, run.stopped == expected))
    return pd.DataFrame(rows, columns=COLUMNS)


def rung_counts(decisions: pd.DataFrame) -> pd.DataFrame:
    """Return by seed and rung how many runs reached it, were stopped there, and went on."""
    counts = decisions.groupby(["seed", "epoch"])["stopped"].agg(reached="size", stopped="sum").reset_index()
    return counts.assign(went_on=counts["reached"] - counts["stopped"])


def _reached(search: SearchRecords, epochs: Sequence[int]) -> pd.DataFrame:
    at_rungs = search.epochs[search.epochs["epoch"].isin(epochs)]
    spent = search.study.epochs(["trial", "epoch", "wall_s"]).sort_values(["trial", "epoch"], kind="stable")
    spent = spent.assign(spent_s=spent.groupby("trial")["wall_s"].cumsum())
    runs = search.runs.set_index("trial")
    frame = at_rungs.merge(spent[["trial", "epoch", "spent_s"]], on=["trial", "epoch"])
    started = frame["trial"].map(runs["started_at"])
    ended_here = frame["trial"].map(runs["epochs"]) == frame["epoch"]
    return frame.assign(
        reached_at=started + pd.to_timedelta(frame["spent_s"], unit="s"),
        stopped=(frame["status"] == "stopped") & ended_here,
    )


def _thresholds(
    arrivals: Sequence[_Run], rule: EarlyStopping, batch: int | None
) -> Iterator[tuple[_Run, int, float]]:
    """Yield each run with how many others it was compared with, and the k-th best of them."""
    if batch is not None:
        arrivals = sorted(arrivals, key=lambda run: run.proposal)
    known: list[float] = []
    waiting: list[_Run] = []  # of the same batch, which does not see itself
    for run in arrivals:
        if batch is not None and waiting and run.proposal // batch != waiting[0].proposal // batch:
            for earlier in waiting:
                insort(known, earlier.value)
            waiting.clear()
        yield run, len(known), _threshold(known, rule)
        if batch is None:
            insort(known, run.value)
        else:
            waiting.append(run)


def _threshold(known: Sequence[float], rule: EarlyStopping) -> float:
    # Rounded, since 0.07 * 100 is a little more than 7.
    place = math.ceil(round(rule.keep * (len(known) + 1), 9))
    if len(known) < rule.at_least or place > len(known):
        return math.nan
    return known[-place]
