"""What a launch will do, decided and checked before anything is started or written."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from ftcl.data import DataError, VideoDataset
from ftcl.recipes import RECIPES, Recipe
from ftcl.recipes.config import configure
from ftcl.recipes.protocol import Protocol, holds_out, selection_split
from study.copies import Say
from study.design import GATE_ATTEMPTS, Seeds, trial_parameters
from study.extension import Extension, find_extension, known_counts
from study.goal import Goal
from study.keys import Keys
from study.ledger_location import LedgerError, LedgerLocation
from study.manifest import differences, new_manifest
from study.records import MANIFEST, RecordsError, read_manifest
from study.spec import Setting, Space, SpecError, load_space
from study.staging import open_data
from study.store import Store, StoreError, open_store

Resume = Literal["auto", "never", "require", "copy"]


_HOW_IT_IS_RUN: Final = ("title", "data", "resources", "checkpoints", "failures")


class LaunchError(ValueError):
    """The study cannot start; the message says why and what to change."""


USER_ERRORS: Final = (SpecError, DataError, LaunchError, RecordsError, StoreError, LedgerError)
"""What a user can mend; any other error is a fault of the program."""


@dataclass(frozen=True)
class Options:
    """What the user asked for; None leaves the choice to the space file or the machine."""

    space: str
    data: str | None = None
    fold: int = 0
    data_seed: int = 0
    out: str | None = None
    trials: int | None = None
    seeds: int | None = None
    ledger: str | None = field(default=None, repr=False)  # may hold a password
    concurrency: int | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    address: str | None = None
    resume: Resume = "auto"
    retry_failed: bool = False
    time_budget: str | None = None  # such as 90s, 45m, 8h
    max_failures: int | None = None
    seed: int = 0
    deterministic: bool = False
    protocol: Protocol = "default"


@dataclass(frozen=True)
class Plan:
    """A study that passed every check: it can start, continue, or only be shown again."""

    options: Options
    space: Space
    recipe: Recipe
    data: VideoDataset
    store: Store  # where the study lies
    ledger: LedgerLocation
    manifest: Mapping[str, Any]
    is_new: bool
    extension: Extension
    finished: bool
    time_budget_s: float | None

    @property
    def out(self) -> str:
        """Where the study lies."""
        return self.store.location

    @property
    def study_id(self) -> str:
        """The study's name in its ledger."""
        return str(self.manifest["id"])

    @property
    def goal(self) -> Goal:
        """What the search improves, as the records name it."""
        metric = self.space.objective.metric
        split = selection_split(self.recipe.stages[-1], self.options.protocol) or "validation"
        return Goal(f"{split}/{metric}", self.recipe.metrics[metric])

    @property
    def keys(self) -> Keys:
        """Names of what the trials make."""
        data, options = self.data, self.options
        return Keys(self.recipe, data.preset, data.fingerprint, options.deterministic, options.protocol)

    @property
    def seeds(self) -> Seeds:
        """The disjoint seeds of the phases."""
        return Seeds(self.options.seed)


def make_plan(options: Options, say: Say | None = None) -> Plan:
    """Check space, data, place and ledger, without leaving a trace; `say` hears of data that are copied here.

    Raises SpecError, DataError, StoreError, LedgerError or LaunchError with the thing, the place and the fix.
    """
    time_budget_s = _seconds(options.time_budget)
    space = load_space(options.space)
    store = open_store(options.out or f"studies/{space.name}")
    existing = _existing(store, options.resume)
    space = _with_counts(space, options, existing, store.location)
    _require_seeds(options, space)
    recipe = RECIPES[space.recipe]
    data = open_data(
        options.data or space.data,
        fold=options.fold,
        seed=options.data_seed,
        hold_out=holds_out(options.protocol),
        say=say,
    )
    if space.gate and not data.splits["validation"]:
        raise LaunchError(
            f"{data.spec} has no validation videos for the gate; drop the gate, or --protocol reference"
        )
    space.check_defaults(data.preset)
    _require_possible_settings(space, recipe, data)
    described = _describe(options, space, recipe, data)
    ledger = LedgerLocation.parse(options.ledger or (existing or {}).get("ledger"), store)
    if existing is None:
        extension, finished = Extension(), False
        manifest = {**new_manifest(described, space.name), "ledger": ledger.shown}
    else:
        is_moved = options.resume == "copy"
        _require_same_study(existing, described, None if is_moved else ledger, store.location)
        extension = find_extension(existing["space"]["definition"], space, described["space"]["definition"])
        extension = replace(extension, lines=(*extension.lines, *_ignored(options, space)))
        finished = existing["finished"] and not extension.needs_trials and not options.retry_failed
        manifest = {**existing, "space": described["space"], "ledger": ledger.shown, "finished": finished}
    is_new = existing is None
    return Plan(
        options, space, recipe, data, store, ledger, manifest, is_new, extension, finished, time_budget_s
    )


def _seconds(duration: str | None) -> float | None:
    """Read a duration such as 90s, 45m or 8h."""
    if duration is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", duration)
    if found is None or float(found[1]) == 0:
        raise LaunchError(f"--time-budget {duration} is not a time such as 90s, 45m or 8h")
    return float(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]]


def _with_counts(space: Space, options: Options, existing: Mapping[str, Any] | None, out: str) -> Space:
    """Put --trials and --seeds in the space; what a study already has is never taken back."""
    trials, seeds = options.trials, options.seeds
    if existing is not None:
        had_trials, had_seeds = known_counts(existing["space"]["definition"])
        for name, wanted, had in (("--trials", trials, had_trials), ("--seeds", seeds, had_seeds)):
            if wanted is not None and wanted < had:
                raise LaunchError(
                    f"{out} was asked for {name} {had} already, and {wanted} would leave results out; ask "
                    f"for at least {had}, or choose another --out"
                )
        if space.search is not None and had_trials:
            trials = max(trials or space.search.trials, had_trials)
        seeds = max(seeds or space.ablation.seeds, had_seeds)
    return space.with_overrides(trials=trials, seeds=seeds)


def _ignored(options: Options, space: Space) -> list[str]:
    """Say which numbers of the space file are less than the study has; without a flag they are no request."""
    asked = load_space(options.space)
    counts = [("seeds", options.seeds or asked.ablation.seeds, space.ablation.seeds)]
    if asked.search is not None and space.search is not None:
        counts.insert(0, ("proposals", options.trials or asked.search.trials, space.search.trials))
    return [
        f"the space file's {wanted} {name} are fewer than the {has} that the study has, and are ignored"
        for name, wanted, has in counts
        if wanted < has
    ]


def _require_same_study(
    existing: Mapping[str, Any], described: Mapping[str, Any], ledger: LedgerLocation | None, out: str
) -> None:
    changed = differences(existing, described)
    if ledger is not None and ledger.shown != existing["ledger"]:
        changed.append(f"ledger: {existing['ledger']} there, {ledger.shown} now")
    if changed:
        raise LaunchError(
            f"{out} holds another study; choose another --out, or ask for the same as there:\n  "
            + "\n  ".join(changed)
        )


def _require_possible_settings(space: Space, recipe: Recipe, data: VideoDataset) -> None:
    """Raise LaunchError for settings that would only fail in a later stage, hours into the study."""
    defaults = space.defaults(data.preset)
    wanted: dict[str, dict[str, Setting]] = {"the defaults": {}}
    wanted |= {f"arm {name}": dict(overlay) for name, overlay in space.ablation.arms.items()}
    for name, distribution in space.searched.items():
        wanted |= {f"{name} = {value}": {name: value} for value in distribution.extremes}
    for place, settings in wanted.items():
        try:
            recipe.check(configure(recipe, data.preset, trial_parameters(space, defaults, settings)), data)
        except ValueError as error:
            raise LaunchError(f"search space {space.name}, {place}: {error}") from error


def _require_seeds(options: Options, space: Space) -> None:
    """Raise LaunchError if the seeds that the study may need cannot be drawn."""
    factor = GATE_ATTEMPTS if space.gate else 1
    try:
        seeds = Seeds(options.seed)
        seeds.ablation(factor * space.ablation.seeds)
        if space.search is not None:
            seeds.search(factor * space.search.seeds)
            seeds.confirm(factor * space.search.confirm.seeds)
    except ValueError as error:
        raise LaunchError(f"{error}; change --seed, --seeds or the space file") from error


def _existing(store: Store, resume: Resume) -> dict[str, Any] | None:
    """Return the manifest of the study that lies there, if there is one and it may be continued."""
    out = store.location
    if store.local is not None and store.local.exists() and not store.local.is_dir():
        raise LaunchError(f"{out} is a file, not a folder; choose another --out")
    if store.local is None:
        store.check()  # says what is wrong with the keys, where a question for a file only says no
    if store.exists(MANIFEST):
        if resume == "never":
            raise LaunchError(f"{out} holds a study already; choose another --out, or drop --resume never")
        return read_manifest(store)
    if resume in ("require", "copy"):
        raise LaunchError(f"{out} holds no study to continue; correct --out, or drop --resume {resume}")
    if not _is_vacant(store):
        raise LaunchError(f"{out} holds other files and no study; choose an empty folder with --out")
    if store.local is not None:
        store.check()
    return None


def _is_vacant(store: Store) -> bool:
    if store.local is None:
        return not store.names("")
    return not store.local.exists() or all(entry.name.startswith(".") for entry in store.local.iterdir())


def _describe(options: Options, space: Space, recipe: Recipe, data: VideoDataset) -> dict[str, Any]:
    definition = json.loads(space.model_dump_json(by_alias=True))
    arms = definition["ablation"]["arms"]
    return {
        "space": {
            "name": space.name,
            "title": space.title,
            "recipe": recipe.name,
            "data": data.spec,
            "arms": arms,
            "baseline": space.ablation.baseline,
            "families": definition["ablation"]["families"],
            "controls": definition["ablation"]["controls"],
            "seeds": space.ablation.seeds,
            # How it is run stays out: it changes no number.
            "definition": {key: value for key, value in definition.items() if key not in _HOW_IT_IS_RUN},
        },
        "recipe": {"name": recipe.name, "version": recipe.version, "stages": list(space.stages)},
        "metrics": dict(recipe.metrics),
        "headline": recipe.headline,
        "data": {
            "spec": data.spec,
            "preset": data.preset,
            "fold": options.fold,
            "seed": options.data_seed,
            "fingerprint": data.fingerprint,
            "classes": list(data.classes),
            "snippet_s": data.snippet_s,
        },
        "protocol": options.protocol,
        "deterministic": options.deterministic,
        "seed": options.seed,
        "gate": None if space.gate is None else space.gate.model_dump(),
        "seeds": None,
        "winner": None,
        "finished": False,
    }
