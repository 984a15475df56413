"""Mistakes in a search space: finding those that need the recipe, and wording all of them."""

import difflib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftcl.recipes import RECIPES, Recipe
from ftcl.recipes.config import configure, parameters, resolve_name, to_flat
from study._yaml import Document, KeyPath

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from study.distributions import Distribution
    from study.spec import Search, Space

Problem = tuple[KeyPath, str]
_Refusal = Callable[[Mapping[str, Any]], str | None]  # settings -> what the recipe says against them

_EXPECTED = {
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "mapping_type": "must be a mapping of key: value",
    "dict_type": "must be a mapping of key: value",
    "model_type": "must be a mapping of key: value",
    "string_too_long": "must be at most 40 signs long",
    "string_pattern_mismatch": "must be text without | and line breaks",
}


class SpecError(ValueError):
    """A search space that cannot run; a line of it reads FILE:LINE: key path: what is wrong, and the fix."""


def raise_problems(file: str, document: Document, problems: Iterable[Problem]) -> None:
    """Raise one SpecError that lists every problem in the order of the file; return if there are none."""
    found = [(document.line(path), placed(file, document.line(path), path, text)) for path, text in problems]
    if found:
        raise SpecError("\n".join(message for _, message in sorted(found)))


def placed(file: str, line: int, path: KeyPath, message: str) -> str:
    """FILE:LINE: key > path: message."""
    keys = f"{' > '.join(map(str, path))}: " if path else ""
    return f"{file}:{line}: {keys}{message}"


def show(value: object) -> str:
    """A value as it is written in YAML."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known ones, otherwise all."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else f"; known: {', '.join(names) or 'none'}"


def structure_problems(errors: Sequence["ErrorDetails"]) -> Iterator[Problem]:
    """What the schema itself refused, with pydantic's places and words turned into the file's."""
    for error in errors:
        path, kind, context = error["loc"], error["type"], error.get("ctx", {})
        if path[:2] == ("search", "parameters"):
            # Below a parameter's name, pydantic adds the kind of distribution that it tried.
            path = path[:3] + path[4:]
        path = tuple(key for key in path if key != "[key]")
        if kind == "unknown_key":
            yield (*path, context["key"]), f"unknown key{context['hint']}"
        elif kind == "missing":
            yield path, "is missing; add it"
        elif kind == "value_error":
            yield path, str(context["error"])
        elif kind == "literal_error":
            yield path, f"must be {context['expected']}, not {show(error['input'])}"
        elif kind in ("too_short", "too_long"):
            bound = "at least" if kind == "too_short" else "at most"
            length = context.get("min_length", context.get("max_length"))
            yield path, f"needs {bound} {length} entries, not {context['actual_length']}"
        elif kind == "no_distribution":
            yield path, error["msg"]
        else:
            expected = _EXPECTED.get(kind, error["msg"].replace("Input should be", "must be"))
            yield path, f"{expected}, not {show(error['input'])}"


def name_problems(space: "Space") -> Iterator[Problem]:
    """Names that nothing answers to, and settings that contradict each other, whatever the data."""
    recipe = RECIPES.get(space.recipe)
    if recipe is None:
        yield ("recipe",), f"unknown recipe {show(space.recipe)}{nearest(space.recipe, RECIPES)}"
        return
    yield from _metric_problems(space, recipe)
    yield from _parameter_problems(space, recipe)
    yield from _condition_problems(space.searched)
    yield from _arm_problems(space)
    stages = [stage.name for stage in recipe.stages]
    for stage in space.resources:
        if stage not in stages:
            yield ("resources", stage), f"unknown stage{nearest(stage, stages)}"
    if space.search is not None:
        yield from _search_problems(space.search, recipe)


def _search_problems(search: "Search", recipe: Recipe) -> Iterator[Problem]:
    if search.confirm.top > search.trials:
        yield (
            ("search", "confirm", "top"),
            f"must be at most the {search.trials} trials, not {search.confirm.top}",
        )
    if search.early_stopping and not recipe.stages[-1].selects_epoch:
        yield (
            ("search", "early_stopping"),
            f"{recipe.stages[-1].name} of recipe {recipe.name} is not evaluated at every epoch; write null",
        )
    rungs = search.early_stopping.rungs if search.early_stopping else ()
    if list(rungs) != sorted(set(rungs)):
        yield ("search", "early_stopping", "rungs"), f"must ascend, as in {sorted(set(rungs))}"


def _metric_problems(space: "Space", recipe: Recipe) -> Iterator[Problem]:
    named: list[tuple[KeyPath, str]] = [(("objective", "metric"), space.objective.metric)]
    named += [
        (("ablation", "families", i, "metric"), family.metric)
        for i, family in enumerate(space.ablation.families)
    ]
    if space.gate:
        named.append((("gate", "metric"), space.gate.metric))
        if len(recipe.stages) == 1 and space.search is not None:
            yield (
                ("gate",),
                f"the gate of recipe {recipe.name} judges the arms, as nothing is trained before them, and "
                "a search has none; drop the gate, or write search: null",
            )
        elif not space.shares_pretraining:
            yield ("gate",), "a gate judges one pretrained model a seed, but the search varies it; drop one"
        if recipe.metrics.get(space.gate.metric) == "min":
            yield ("gate", "metric"), f"{space.gate.metric} is better when lower; a gate needs one to reach"
    for path, metric in named:
        if metric not in recipe.metrics:
            yield path, f"unknown metric {show(metric)}{nearest(metric, recipe.metrics)}"


def _parameter_problems(space: "Space", recipe: Recipe) -> Iterator[Problem]:
    searched = space.searched
    places: list[tuple[KeyPath, Iterable[str]]] = [(("fixed",), space.fixed)]
    places.append((("search", "parameters"), searched))
    places += [(("ablation", "arms", arm), overlay) for arm, overlay in space.ablation.arms.items()]
    known = parameters(recipe)
    for path, names in places:
        for name in names:
            if name not in known:
                yield (*path, name), _unknown_parameter(recipe, name)
    for name, distribution in searched.items():
        if name in space.fixed:
            yield ("fixed", name), "is searched too; drop it here or under search > parameters"
        if name in known and known[name].type is int and distribution.kind == "float":
            yield ("search", "parameters", name, "float"), "takes whole numbers; write int: [low, high]"


def _unknown_parameter(recipe: Recipe, name: str) -> str:
    try:
        return f"write it in full, {resolve_name(recipe, name)}"
    except ValueError as error:
        return str(error)


def _condition_problems(searched: Mapping[str, "Distribution"]) -> Iterator[Problem]:
    for name, distribution in searched.items():
        for parent, values in distribution.when.items():
            path: KeyPath = ("search", "parameters", name, "when", parent)
            if parent not in searched:
                yield path, f"is not searched, so it decides nothing{nearest(parent, searched)}"
            elif searched[parent].kind == "float":
                yield path, "has a float range; a condition needs a choice or int parameter"
            else:
                for value in values:
                    if not searched[parent].contains(value):
                        yield path, f"never takes the value {show(value)}"
    for name in sorted(searched.keys() - by_dependence(searched)):
        yield ("search", "parameters", name, "when"), "leads round in a circle of conditions; break it"


def by_dependence(searched: Mapping[str, "Distribution"]) -> list[str]:
    """The searched parameters, each after those that its condition names; circles are left out."""
    ordered: list[str] = []
    remaining = dict(searched)
    while ready := [
        name for name, d in remaining.items() if all(p in ordered or p not in searched for p in d.when)
    ]:
        ordered += ready
        for name in ready:
            del remaining[name]
    return ordered


def _arm_problems(space: "Space") -> Iterator[Problem]:
    ablation = space.ablation
    named: list[tuple[KeyPath, str]] = [(("ablation", "baseline"), ablation.baseline)]
    groups: list[tuple[KeyPath, tuple[str, ...], tuple[str, ...]]] = [
        (("ablation", "families", i), family.arms, (family.against,))
        for i, family in enumerate(ablation.families)
    ]
    if ablation.controls:
        groups.append((("ablation", "controls"), ablation.controls.arms, ablation.controls.against))
    for path, arms, against in groups:
        named += [((*path, "arms"), arm) for arm in arms] + [((*path, "against"), arm) for arm in against]
        for arm in sorted({arm for arm in arms if arms.count(arm) > 1 or arm in against}):
            yield (*path, "arms"), f"{arm} would be compared with itself or twice; name it once"
    for path, arm in named:
        if arm not in ablation.arms:
            yield path, f"unknown arm {show(arm)}{nearest(arm, ablation.arms)}"
    names = [family.name for family in ablation.families]
    for i, name in enumerate(names):
        if name in names[:i]:
            yield ("ablation", "families", i, "name"), f"a second family is called {show(name)}; rename one"


def preset_problems(space: "Space", preset: str) -> Iterator[Problem]:
    """Values that the recipe refuses, or that do not fit the published defaults, for data of `preset`."""
    recipe = RECIPES[space.recipe]

    def refusal(settings: Mapping[str, Any]) -> str | None:
        try:
            configure(recipe, preset, settings)
        except ValueError as error:
            return str(error)
        return None

    if problem := refusal({}):
        yield ("data",), problem
        return
    problems = list(_refused_settings(("fixed",), {}, space.fixed, refusal))
    if problems:
        yield from problems
        return
    for arm, overlay in space.ablation.arms.items():
        yield from _refused_settings(("ablation", "arms", arm), space.fixed, overlay, refusal)
    for name, distribution in space.searched.items():
        for value in distribution.extremes:
            if problem := refusal({**space.fixed, name: value}):
                yield ("search", "parameters", name, distribution.kind), problem
    for name, default in space.defaults(preset).items():
        if not space.searched[name].contains(default):
            yield (
                ("search", "parameters", name),
                f"leaves out {show(default)}, the published default for {preset} data, which trial 0 runs; "
                "widen the range or fix the parameter",
            )
    # On other data a rung beyond the last epoch stops nothing and does no harm.
    if preset == space.preset:
        yield from _rung_problems(space)


def _refused_settings(
    path: KeyPath, base: Mapping[str, Any], overlay: Mapping[str, Any], refusal: _Refusal
) -> Iterator[Problem]:
    problem = refusal({**base, **overlay})
    if problem is None:
        return
    single = [
        ((*path, name), refused)
        for name, value in overlay.items()
        if (refused := refusal({**base, name: value}))
    ]
    yield from single or [(path, problem)]


def _rung_problems(space: "Space") -> Iterator[Problem]:
    recipe = RECIPES[space.recipe]
    early_stopping = None if space.search is None else space.search.early_stopping
    name = f"{recipe.stages[-1].name}.epochs"
    if name in space.searched:
        extremes = space.searched[name].extremes
        epochs = min((value for value in extremes if isinstance(value, int)), default=math.inf)
    else:
        epochs = to_flat(configure(recipe, space.preset, space.fixed))[name]
    for i, rung in enumerate(early_stopping.rungs if early_stopping else ()):
        if rung >= epochs:
            yield (
                ("search", "early_stopping", "rungs", i),
                f"{rung} is not below the {epochs} of {name}; a stop there saves nothing",
            )
