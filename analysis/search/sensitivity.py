"""How the result moves with one setting: over arms that differ in it alone, or over a search's proposals."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from analysis.load import Study
from analysis.search.proposals import SearchRecords

MIN_VALUES: Final = 3
_MOST_BINS: Final = 5
_MIN_IN_BIN: Final = 3


@dataclass(frozen=True)
class Grid:
    """Arms that differ in one number and in nothing else."""

    parameter: str
    arms: Mapping[float, str]  # value -> arm, in the order of values


def grids(study: Study) -> list[Grid]:
    """Return the parameters that at least three arms give different numbers, everything else being equal."""
    stated = study.definition.get("ablation", {}).get("arms", {})
    common = {**study.definition.get("fixed", {}), **(study.winner or {})}
    settings = {arm: {**common, **stated[arm]} for arm in study.arms if arm in stated}
    groups: dict[tuple[str, str], dict[float, str]] = {}
    for arm, own in settings.items():
        for parameter in stated[arm]:
            if not _is_number(own[parameter]):
                continue
            others = repr(sorted((name, value) for name, value in own.items() if name != parameter))
            groups.setdefault((parameter, others), {})[float(own[parameter])] = arm
    return [
        Grid(parameter, dict(sorted(arms.items())))
        for (parameter, _), arms in groups.items()
        if len(arms) >= MIN_VALUES
    ]


def search_bins(search: SearchRecords) -> pd.DataFrame:
    """Return the mean of the complete proposals by parameter and bin, with how many they are.

    Numeric parameters are cut at quantiles of their settings, at most five bins of three or more proposals;
    one with options has a bin per option (`option`). ci_low and ci_high: t interval over proposals. The
    proposals of a bin differ in all other parameters too, and are not paired with those of another bin.
    Raises NothingToShow if no proposal is complete.
    """
    complete = search.complete()
    rows = []
    for parameter in search.parameters:
        settings, values = complete[parameter.name], complete["value"]
        if parameter.options:
            groups = [
                (math.nan, math.nan, option, values[settings == option]) for option in parameter.options
            ]
        else:
            count = min(_MOST_BINS, settings.notna().sum() // _MIN_IN_BIN)
            if count < 2 or settings.nunique() < 2:
                continue
            bins = pd.qcut(settings, count, labels=False, duplicates="drop")
            groups = [
                (settings[bins == place].min(), settings[bins == place].max(), None, values[bins == place])
                for place in range(int(bins.max()) + 1)
            ]
        rows += [
            (parameter.name, low, high, option, *_mean_interval(group))
            for low, high, option, group in groups
            if len(group)
        ]
    return pd.DataFrame(
        rows, columns=["parameter", "low", "high", "option", "n", "mean", "ci_low", "ci_high"]
    )


def _mean_interval(values: pd.Series) -> tuple[int, float, float, float]:
    n, mean = len(values), float(values.mean())
    if n < 2:
        return n, mean, math.nan, math.nan
    margin = float(stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return n, mean, mean - margin, mean + margin


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
