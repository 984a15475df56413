"""What a launch asks of an existing study beyond the launches before it: more of it, never another."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from study.spec import Space

# What a study may be asked anew without becoming another one. Trials that it has keep their meaning: their
# settings are on record, and a trial counts where its settings are what the design wants.
_SEARCH: Final = ("trials", "confirm")
_COMPARISONS: Final = ("baseline", "families", "controls")


@dataclass(frozen=True)
class Extension:
    """How a launch goes beyond the launches before it, in words for the user."""

    lines: tuple[str, ...] = ()
    needs_trials: bool = False  # else only the table is made anew


def fixed_part(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a space's definition in which two launches of one study must agree."""
    fixed = {name: value for name, value in definition.items() if name != "ablation"}
    search = definition["search"]
    if search is None:
        return fixed
    rest = {name: value for name, value in search.items() if name not in _SEARCH}
    return {**fixed, "search": {**rest, "confirm": {"seeds": search["confirm"]["seeds"]}}}


def known_counts(definition: Mapping[str, Any]) -> tuple[int, int]:
    """Return the proposals (0 without a search) and the ablation seeds that a study was asked for."""
    search = definition["search"]
    return 0 if search is None else search["trials"], definition["ablation"]["seeds"]


def find_extension(before: Mapping[str, Any], space: Space, now: Mapping[str, Any]) -> Extension:
    """Compare the definition of the launches before with that of `space` now."""
    lines, needs_trials = [], False
    (old_trials, old_seeds), (trials, seeds) = known_counts(before), known_counts(now)
    if trials > old_trials:
        lines.append(
            f"{old_trials} → {trials} proposals; if another one wins, the ablation runs on its settings"
        )
        needs_trials = True
    if seeds > old_seeds:
        lines.append(
            f"{old_seeds} → {seeds} seeds of the ablation, for each of {len(space.ablation.arms)} arms"
        )
        needs_trials = True
    if trials and now["search"]["confirm"]["top"] != before["search"]["confirm"]["top"]:
        lines.append(f"the best {now['search']['confirm']['top']} proposals are confirmed")
        needs_trials = True
    old_arms, arms = before["ablation"]["arms"], now["ablation"]["arms"]
    for name, settings in arms.items():
        if name not in old_arms:
            lines.append(f"arm {name} is new")
            needs_trials = True
        elif settings != old_arms[name]:
            lines.append(f"arm {name} has other settings, so its trials run again")
            needs_trials = True
    lines += [
        f"arm {name} is no longer asked for; its trials stay on record"
        for name in old_arms
        if name not in arms
    ]
    if any(before["ablation"].get(name) != now["ablation"].get(name) for name in _COMPARISONS):
        lines.append("the comparisons are others; the table is made anew")
    return Extension(tuple(lines), needs_trials)
