"""The search space file: what it may hold, and every mistake in it reported with file, line and fix."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import (
    Field,
    FiniteFloat,
    PositiveInt,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure, to_flat
from ftcl.recipes.recipe import Direction
from study._checks import (
    SpecError,
    by_dependence,
    name_problems,
    nearest,
    placed,
    preset_problems,
    raise_problems,
    show,
    structure_problems,
)
from study._yaml import Document, YamlError, parse
from study.distributions import (
    Choice,
    Distribution,
    FloatRange,
    IntRange,
    Setting,
    Settings,
    SpecModel,
    among,
)
from study.failures import DEFAULT_POLICIES, Action, Policy, PolicyKind

__all__ = [
    "Choice",
    "Distribution",
    "EarlyStopping",
    "FloatRange",
    "IntRange",
    "ListedSpace",
    "Setting",
    "Settings",
    "Space",
    "SpecError",
    "list_spaces",
    "load_space",
]

MAX_FILE_BYTES = 1_000_000


class Objective(SpecModel):
    """What the search improves. Only validation: a search that saw test videos would inflate the result."""

    metric: str
    split: Literal["validation"]


class Confirm(SpecModel):
    """The `top` proposals run again, each on `seeds` further seeds."""

    top: PositiveInt
    seeds: PositiveInt


class Sampler(SpecModel):
    """Who proposes: multivariate TPE after `startup` random proposals, or random throughout."""

    name: Literal["tpe", "random"] = "tpe"
    startup: PositiveInt = 8


class EarlyStopping(SpecModel):
    """Stop a run that is not in the best `keep` share of its seed at a rung (finished epochs)."""

    rungs: tuple[PositiveInt, ...] = Field(min_length=1)
    keep: float = Field(gt=0, lt=1)
    at_least: PositiveInt
    """Other runs' values needed at a rung before anything is stopped there."""


class Search(SpecModel):
    trials: PositiveInt
    """Proposals; the first is the published defaults."""
    seeds: PositiveInt
    """Every proposal runs on each of so many seeds."""
    confirm: Confirm
    sampler: Sampler = Sampler()
    batch: PositiveInt = 6
    """Proposals asked at once when proposals must not depend on timing."""
    early_stopping: EarlyStopping | None = None
    parameters: Mapping[str, Distribution] = Field(min_length=1)


class Family(SpecModel):
    """Comparisons whose p values are corrected together (Holm)."""

    name: str
    metric: str
    arms: tuple[str, ...] = Field(min_length=1)
    against: str


class Controls(SpecModel):
    """Arms that get effect and interval only, against the baseline and against each of `against`."""

    arms: tuple[str, ...] = Field(min_length=1)
    against: tuple[str, ...] = ()


ArmName = Annotated[str, StringConstraints(pattern=r"^[^|\r\n]+$", max_length=40)]


class Ablation(SpecModel):
    seeds: PositiveInt
    baseline: str
    arms: Mapping[ArmName, Settings] = Field(min_length=1)
    """Settings laid over the winner's."""
    families: tuple[Family, ...] = ()
    controls: Controls | None = None


class Gate(SpecModel):
    """A pretrained model must reach this on validation, or the next seed takes its place."""

    metric: str
    at_least: FiniteFloat


class Resources(SpecModel):
    """What one run of a stage occupies; a share of a GPU, or whole ones. An attempt may take `max_hours`."""

    cpus: PositiveInt = 1
    gpus: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    memory_gb: Annotated[FiniteFloat, Field(gt=0)] = 1.5
    max_hours: Annotated[FiniteFloat, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> "Resources":
        if self.gpus > 1 and self.gpus != int(self.gpus):
            raise ValueError(f"gpus above 1 must be whole, not {self.gpus}")
        return self


class Checkpoints(SpecModel):
    """Where a trial can go on: the newest `keep` of its checkpoints, one after `every` epochs."""

    keep: PositiveInt = 2
    every: PositiveInt = 1


class FailurePolicy(SpecModel):
    """What is done when a trial fails in a certain way; see study.failures."""

    action: Action
    times: PositiveInt | None = None
    """Of retry and elsewhere: in a row, without a new epoch in between."""

    @model_validator(mode="after")
    def _check(self) -> "FailurePolicy":
        if self.times is not None and self.action in ("never", "stop"):
            raise ValueError(f"times says how often to try again, but the action is {self.action}; drop it")
        return self


class Space(SpecModel):
    """One study: recipe, search, ablation, budget. `name` is the file's; every parameter is GROUP.FIELD."""

    name: str
    title: str
    recipe: str
    data: str
    fixed: Settings = Field(default_factory=dict)
    objective: Objective
    search: Search | None
    """None: the ablation runs on the recipe's defaults."""
    ablation: Ablation
    gate: Gate | None = None
    resources: Mapping[str, Resources] = Field(default_factory=dict)
    checkpoints: Checkpoints = Checkpoints()
    failures: Mapping[PolicyKind, FailurePolicy] = Field(default_factory=dict)
    _file: str = PrivateAttr(default="")
    _document: Document = PrivateAttr(default=Document(None, {(): 1}))

    @property
    def preset(self) -> str:
        """The preset of the space's own data: watch, thumos14, ..."""
        return self.data.partition(":")[0]

    @property
    def stages(self) -> tuple[str, ...]:
        """The recipe's stages in their order."""
        return tuple(stage.name for stage in RECIPES[self.recipe].stages)

    @property
    def searched(self) -> Mapping[str, Distribution]:
        """The searched parameters; none without a search."""
        return {} if self.search is None else self.search.parameters

    @property
    def direction(self) -> Direction:
        """Whether the objective is better when higher (max) or lower (min)."""
        return RECIPES[self.recipe].metrics[self.objective.metric]

    def with_overrides(self, *, trials: int | None = None, seeds: int | None = None) -> "Space":
        """This space with other numbers of proposals and of ablation seeds; fewer proposals confirm fewer."""
        for name, count in (("trials", trials), ("seeds", seeds)):
            if count is not None and count < 1:
                raise SpecError(f"{name} must be at least 1, not {count}")
        search, ablation = self.search, self.ablation
        if trials is not None:
            if search is None:
                raise SpecError(
                    f"search space {self.name} has no search, so it makes no proposals; drop --trials"
                )
            confirm = search.confirm.model_copy(update={"top": min(search.confirm.top, trials)})
            search = search.model_copy(update={"trials": trials, "confirm": confirm})
        if seeds is not None:
            ablation = ablation.model_copy(update={"seeds": seeds})
        return self.model_copy(update={"search": search, "ablation": ablation})

    def searched_stage_of(self, name: str) -> str:
        """The first stage whose results depend on the parameter `name`; those before it can be shared."""
        group, stages = name.partition(".")[0], RECIPES[self.recipe].stages
        return next((stage.name for stage in stages if group in stage.key_groups), stages[-1].name)

    @property
    def shares_pretraining(self) -> bool:
        """Whether proposals differ in the last stage only, so that all trials of a seed share the others."""
        return all(self.searched_stage_of(name) == self.stages[-1] for name in self.searched)

    def resources_of(self, stage: str) -> Resources:
        """The resources of one run of `stage`; one CPU where the file says nothing."""
        return self.resources.get(stage, Resources())

    def policies(self) -> dict[PolicyKind, Policy]:
        """What is done after each kind of failure: the defaults, under what the file says."""
        policies = dict(DEFAULT_POLICIES)
        for kind, own in self.failures.items():
            times = own.times if own.times is not None else max(policies[kind].times, 1)
            policies[kind] = Policy(own.action, times if own.action in ("retry", "elsewhere") else 0)
        return policies

    def active(self, values: Settings) -> tuple[str, ...]:
        """The searched parameters whose conditions hold under `values`, those they depend on first."""
        names: list[str] = []
        for name in by_dependence(self.searched):
            when = self.searched[name].when
            if all(p in names and p in values and among(values[p], when[p]) for p in when):
                names.append(name)
        return tuple(names)

    def defaults(self, preset: str) -> dict[str, Setting]:
        """Trial 0: the published value, for data of `preset`, of every active searched parameter."""
        published = to_flat(configure(RECIPES[self.recipe], preset, self.fixed))
        return {name: published[name] for name in self.active(published)}

    def check_defaults(self, preset: str) -> None:
        """Raise SpecError unless data of `preset` can run this space: defaults, ranges and arms."""
        raise_problems(self._file, self._document, preset_problems(self, preset))


class ListedSpace(NamedTuple):
    """A shipped space: its title, or the problem that keeps it from running."""

    name: str
    title: str
    problem: str | None


def list_spaces() -> list[ListedSpace]:
    """The shipped spaces by name; an invalid file is listed with what is wrong."""
    listed = []
    for name, path in sorted(_shipped().items()):
        try:
            listed.append(ListedSpace(name, _read(path).title, None))
        except SpecError as error:
            listed.append(ListedSpace(name, "", str(error)))
    return listed


def load_space(name_or_path: str) -> Space:
    """Read a shipped space by its name, or any file by a path that ends in .yaml."""
    if name_or_path.endswith(".yaml"):
        return _read(Path(name_or_path))
    shipped = _shipped()
    if name_or_path not in shipped:
        raise SpecError(f"unknown search space {show(name_or_path)}{nearest(name_or_path, shipped)}")
    return _read(shipped[name_or_path])


def _shipped() -> dict[str, Path]:
    paths = [Path(str(entry)) for entry in resources.files("search_spaces").iterdir()]
    return {path.stem: path for path in paths if path.suffix == ".yaml"}


def _read(path: Path) -> Space:
    file = _display(path)
    try:
        content = path.read_bytes()
        if len(content) > MAX_FILE_BYTES:
            raise SpecError(f"{file}: {len(content)} bytes; a search space has at most {MAX_FILE_BYTES}")
        document = parse(content.decode())
    except FileNotFoundError:
        beside = [other.name for other in path.parent.glob("*.yaml")]
        raise SpecError(f"{file}: no such file{nearest(path.name, beside)}") from None
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SpecError(f"{file}:{line}: not UTF-8 text; save the file as UTF-8") from None
    except YamlError as error:
        raise SpecError(placed(file, error.line, error.path, str(error))) from None
    space = _validated(path.stem, file, document)
    # Names first: the recipe cannot judge a value of a parameter that it does not have.
    raise_problems(file, document, name_problems(space))
    space.check_defaults(space.preset)
    return space


def _validated(name: str, file: str, document: Document) -> Space:
    if not isinstance(document.data, dict):
        raise SpecError(f"{file}:1: must be a mapping of key: value; a space starts with title: and recipe:")
    if "name" in document.data:
        raise_problems(file, document, [(("name",), "a space is named by its file; drop this key")])
    try:
        space = Space.model_validate({"name": name, **document.data})
    except ValidationError as error:
        raise_problems(file, document, structure_problems(error.errors()))
        raise
    space._file, space._document = file, document
    return space


def _display(path: Path) -> str:
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
