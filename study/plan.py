"""What a launch will do, decided and checked before anything is started or written."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from ftcl.data import DataError, VideoDataset, load_dataset
from ftcl.recipes import RECIPES, Recipe
from ftcl.recipes.config import configure
from ftcl.recipes.protocol import Protocol, holds_out, selection_split
from study.design import GATE_ATTEMPTS, Seeds, trial_parameters
from study.goal import Goal
from study.manifest import differences, new_manifest
from study.records import MANIFEST, RecordsError, read_manifest
from study.spec import Setting, Space, SpecError, load_space

LOCK: Final = ".lock"  # held by the driver of a study
Resume = Literal["auto", "never", "require"]


class LaunchError(ValueError):
    """The study cannot start; the message says why and what to change."""


USER_ERRORS: Final = (SpecError, DataError, LaunchError, RecordsError)
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
    ledger: str | None = None
    concurrency: int | None = None
    gpus_per_trial: float | None = None
    address: str | None = None
    resume: Resume = "auto"
    retry_failed: bool = False
    time_budget: float | None = None  # seconds
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
    out: Path
    manifest: Mapping[str, Any]  # of the run that started the study, or of this one
    is_new: bool
    finished: bool

    @property
    def goal(self) -> Goal:
        """What the search improves, as the records name it."""
        metric = self.space.objective.metric
        split = selection_split(self.recipe.stages[-1], self.options.protocol) or "validation"
        return Goal(f"{split}/{metric}", self.recipe.metrics[metric])

    @property
    def seeds(self) -> Seeds:
        """The disjoint seeds of the phases."""
        return Seeds(self.options.seed)


def make_plan(options: Options) -> Plan:
    """Check space, data and output folder, without leaving a trace.

    Raises SpecError, DataError or LaunchError with the thing, the place and the fix.
    """
    space = load_space(options.space).with_overrides(trials=options.trials, seeds=options.seeds)
    _require_seeds(options, space)
    recipe = RECIPES[space.recipe]
    out = (options.out or Path("studies") / space.name).absolute()
    existing = _existing(out, options.resume)
    data = load_dataset(
        options.data or space.data,
        fold=options.fold,
        seed=options.data_seed,
        hold_out=holds_out(options.protocol),
    )
    if space.gate and not data.splits["validation"]:
        raise LaunchError(
            f"{data.spec} has no validation videos for the gate; drop the gate, or --protocol reference"
        )
    space.check_defaults(data.preset)
    _require_possible_settings(space, recipe, data)
    described = _describe(options, space, recipe, data)
    if existing is not None:
        changed = differences(existing, described)
        if changed:
            raise LaunchError(
                f"{out} holds another study; choose another --out, or ask for the same as there:\n  "
                + "\n  ".join(changed)
            )
    finished = existing is not None and bool(existing.get("finished"))
    manifest = existing or new_manifest(described)
    return Plan(options, space, recipe, data, out, manifest, existing is None, finished)


def _require_possible_settings(space: Space, recipe: Recipe, data: VideoDataset) -> None:
    """Raise LaunchError for settings that would only fail in a later stage, hours into the study."""
    defaults = space.defaults(data.preset)
    wanted: dict[str, dict[str, Setting]] = {"the defaults": {}}
    wanted |= {f"arm {name}": dict(overlay) for name, overlay in space.ablation.arms.items()}
    for name, distribution in space.search.parameters.items():
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
        seeds.search(factor * space.search.seeds)
        seeds.confirm(factor * space.search.confirm.seeds)
    except ValueError as error:
        raise LaunchError(f"{error}; change --seed, --seeds or the space file") from error


def _existing(out: Path, resume: Resume) -> dict[str, Any] | None:
    """Return the manifest of the study in OUT, if there is one and it may be continued."""
    if (out / MANIFEST).exists():
        if resume == "never":
            raise LaunchError(f"{out} holds a study already; choose another --out, or drop --resume never")
        return read_manifest(out)
    if resume == "require":
        raise LaunchError(f"{out} holds no study to continue; correct --out, or drop --resume require")
    if out.exists() and not out.is_dir():
        raise LaunchError(f"{out} is a file, not a folder; choose another --out")
    if out.is_dir() and any(not entry.name.startswith(".") for entry in out.iterdir()):
        raise LaunchError(f"{out} holds other files and no study; choose an empty folder with --out")
    _check_writable(out)
    return None


def _check_writable(out: Path) -> None:
    """Make the folder and take it away again: permissions alone do not tell (root, read-only mounts)."""
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise LaunchError(f"cannot write to {out} ({error.strerror}); choose another --out") from error
    finally:
        for folder in missing:
            if folder.is_dir():
                folder.rmdir()


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
            # What may change without making it another study stays out.
            "definition": {k: v for k, v in definition.items() if k not in ("title", "data", "resources")},
        },
        "recipe": {"name": recipe.name, "version": recipe.version},
        "metrics": dict(recipe.metrics),
        "headline": recipe.headline,
        "data": {
            "spec": data.spec,
            "preset": data.preset,
            "fold": options.fold,
            "seed": options.data_seed,
            "fingerprint": data.fingerprint,
        },
        "protocol": options.protocol,
        "deterministic": options.deterministic,
        "seed": options.seed,
        "gate": None if space.gate is None else space.gate.model_dump(),
        "seeds": None,
        "winner": None,
        "finished": False,
    }
