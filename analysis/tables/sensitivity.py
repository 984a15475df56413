"""How the objective moves with each searched setting: one row per value, or per part of a range."""

import itertools
import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd

from analysis._text import NONE, decimals, mean_sd, number
from analysis._words import count
from analysis.load import Study
from analysis.search.proposals import Parameter, SearchRecords, search_of
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, Row, Table

_PARTS: Final = 5  # of a range of numbers
_MOST_VALUES: Final = 10  # up to which every whole number has a row of its own


class _Part(NamedTuple):
    """A value, or a part of a range from `low` to `high`."""

    label: str
    low: float
    high: float
    option: Any
    proposals: pd.DataFrame


def sensitivity_table(*studies: Study) -> Table:
    """Return values of the searched parameters × what the proposals with them reached.

    Several studies stand side by side. Raises NothingToShow if no study has a search with a complete
    proposal.
    """
    return side_by_side(studies, _table)


def _table(study: Study) -> Table:
    search = search_of(study)
    complete = search.complete()
    rung = search.early_stopping.rungs[0] if search.early_stopping else None
    early = search.values_at(rung) if rung else pd.Series(dtype=np.float64)
    proposals = search.proposals.assign(early=search.proposals["proposal"].map(early))
    digits = decimals(pd.concat([complete["value"], proposals["early"]]))
    rows, records = [], []
    for parameter in search.parameters:
        parts = list(_parts(parameter, proposals))
        rows += [Row(_cells(search, part, digits, bool(rung)), parameter.label) for part in parts]
        records += [_record(search, parameter, part) for part in parts]
    columns = [
        Column("setting", align="left"),
        Column("complete"),
        Column("mean ± sd", group="complete ones"),
        Column("best", group="complete ones"),
    ]
    if rung:
        columns.append(Column(f"after {rung} epochs", group="all"))
    return Table(
        name="sensitivity",
        title=f"Sensitivity of {search.objective.label}: {study.name} on {study.data}",
        columns=tuple(columns),
        rows=tuple(rows),
        long=pd.DataFrame(records),
        notes=tuple(_notes(search, rung)),
    )


def _cells(search: SearchRecords, part: _Part, digits: int, with_early: bool) -> tuple[Cell, ...]:
    complete = part.proposals[part.proposals["state"] == "complete"]
    everything, finished = (_trials(search, frame) for frame in (part.proposals, complete))
    head = Cell(part.label)
    winner = "◂ " if _holds_winner(search, part) else ""
    count = Cell(f"{winner}{len(complete)} of {len(part.proposals)}", len(complete), everything)
    if part.proposals.empty:
        absent = Cell("", missing="no proposal lies here")
        return (head, count, *[absent] * (3 if with_early else 2))
    if complete.empty:
        is_running = (part.proposals["state"] == "running").any()
        ran = "has run to its end on all seeds yet" if is_running else "ran to its end on all seeds"
        absent = Cell("", missing=f"no proposal here {ran}")
        values = [absent, absent]
    else:
        mean, sd = float(complete["value"].mean()), complete["value"].std(ddof=1)
        best = (complete["value"] * search.objective.sign).max() * search.objective.sign
        values = [
            Cell(mean_sd(pd.Series({"mean": mean, "sd": sd}), digits), mean, finished),
            Cell(_number(best, digits), float(best), finished),
        ]
    if with_early:
        reached = part.proposals[part.proposals["early"].notna()]
        if reached.empty:
            values.append(Cell("", missing="no proposal here has come so far on all seeds"))
        else:
            early = pd.Series({"mean": reached["early"].mean(), "sd": reached["early"].std(ddof=1)})
            values.append(Cell(mean_sd(early, digits), float(early["mean"]), _trials(search, reached)))
    return (head, count, *values)


def _parts(parameter: Parameter, proposals: pd.DataFrame) -> Iterator[_Part]:
    settings = proposals[parameter.name]
    nan = math.nan
    if parameter.options:
        for option in parameter.options:
            own = settings.map(repr) == repr(option)
            yield _Part(str(option), nan, nan, option, proposals[own])
    elif parameter.integer and parameter.high - parameter.low < _MOST_VALUES:
        for value in range(int(parameter.low), int(parameter.high) + 1):
            yield _Part(str(value), value, value, None, proposals[settings == value])
    else:
        yield from _ranges(parameter, proposals)
    unset = settings.isna()
    if parameter.conditional and unset.any():
        yield _Part("not searched", nan, nan, None, proposals[unset])


def _ranges(parameter: Parameter, proposals: pd.DataFrame) -> Iterator[_Part]:
    """Yield equal parts of the range, in the logarithm where the parameter is searched in it."""
    settings = proposals[parameter.name]
    if parameter.log:
        edges = np.geomspace(parameter.low, parameter.high, _PARTS + 1)
    else:
        edges = np.linspace(parameter.low, parameter.high, _PARTS + 1)
    if parameter.integer:
        edges = np.unique(np.round(edges))
    # Rounding must not push a setting at an end of the range out of it.
    edges[0], edges[-1] = parameter.low, parameter.high
    for low, high in itertools.pairwise(edges):
        is_last = high == edges[-1]
        own = (settings >= low) & ((settings <= high) if is_last else (settings < high))
        if parameter.integer:
            last = high if is_last else high - 1
            label = f"{low:.0f} to {last:.0f}" if last > low else f"{low:.0f}"
        else:
            label = f"{low:.2g} to {high:.2g}"
        yield _Part(label, float(low), float(high), None, proposals[own])


def _holds_winner(search: SearchRecords, part: _Part) -> bool:
    return search.winner is not None and bool((part.proposals["proposal"] == search.winner).any())


def _trials(search: SearchRecords, proposals: pd.DataFrame) -> tuple[int, ...]:
    own = search.runs["proposal"].isin(proposals["proposal"])
    return tuple(search.runs.loc[own, "trial"].tolist())


def _number(value: float, digits: int) -> str:
    return number(value, digits) if math.isfinite(value) else NONE


def _record(search: SearchRecords, parameter: Parameter, part: _Part) -> dict[str, Any]:
    complete = part.proposals[part.proposals["state"] == "complete"]["value"]
    early = part.proposals["early"].dropna()
    return {
        "parameter": parameter.name,
        "setting": part.label,
        "low": part.low,
        "high": part.high,
        "proposals": len(part.proposals),
        "complete": len(complete),
        "mean": complete.mean(),
        "sd": complete.std(ddof=1),
        "best": (complete * search.objective.sign).max() * search.objective.sign
        if len(complete)
        else math.nan,
        "early_n": len(early),
        "early_mean": early.mean(),
        "early_sd": early.std(ddof=1),
    }


def _notes(search: SearchRecords, rung: int | None) -> Iterator[str]:
    yield (
        f"A proposal's value is its mean over {count(len(search.seeds), 'search seed')}; mean, sd and best "
        "are over proposals, which differ in all other settings too. This is exploration, not a test."
    )
    if search.early_stopping and search.num_stopped:
        yield (
            "The complete ones are those that were not stopped early, so the better ones; "
            f"after {rung} epochs, where nothing had been stopped, all compare."
        )
    if any(not parameter.options for parameter in search.parameters):
        yield f"Ranges are cut into {_PARTS} equal parts, in the logarithm where they are searched in it."
    if search.winner is not None:
        yield "◂: where the winner lies."
