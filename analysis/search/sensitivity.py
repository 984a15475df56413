"""Arms that differ in one setting alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analysis.load import Study

MIN_VALUES: Final = 3


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


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
