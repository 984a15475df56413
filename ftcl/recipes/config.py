"""Typed parameters of a recipe: look them up by name, set them from a file or a command line, list them."""

import dataclasses
import difflib
import functools
import math
import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ftcl.recipes.recipe import Config, Recipe

_NONE_WORDS = ("none", "null")
_TRUE_WORDS = ("true", "yes", "on", "1")
_FALSE_WORDS = ("false", "no", "off", "0")


def option(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A dataclass field with its meaning and its inclusive range."""
    return dataclasses.field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class Parameter:
    """One field of one config group."""

    name: str  # "group.field"
    type: type  # int, float, bool, str or tuple (of floats)
    optional: bool  # None is allowed
    choices: tuple[str, ...]  # () where the values are not listed
    low: float | None
    high: float | None
    help: str

    def describe_values(self) -> str:
        """The allowed values in words, for messages."""
        if self.choices:
            words = " | ".join(self.choices)
        else:
            words = {
                int: "an integer",
                float: "a number",
                bool: "true or false",
                str: "a word",
                tuple: "a list of numbers",
            }[self.type]
            if self.low is not None and self.high is not None:
                words += f" from {self.low:g} to {self.high:g}"
            elif self.low is not None:
                words += f" of at least {self.low:g}"
            elif self.high is not None:
                words += f" of at most {self.high:g}"
        return f"{words}, or null" if self.optional else words


def parameters(recipe: Recipe) -> dict[str, Parameter]:
    """Every parameter of a recipe by full name, in the order of its groups and fields."""
    found: dict[str, Parameter] = {}
    for group, config_type in recipe.groups.items():
        found |= {parameter.name: parameter for parameter in _parameters_of(group, config_type)}
    return found


@functools.cache  # read for every trial that a study looks at
def _parameters_of(group: str, config_type: type) -> tuple[Parameter, ...]:
    hints = get_type_hints(config_type)
    found = []
    for field in dataclasses.fields(config_type):
        name = f"{group}.{field.name}"
        value_type, optional, choices = _resolve_type(hints[field.name], name)
        found.append(
            Parameter(
                name,
                value_type,
                optional,
                choices,
                field.metadata.get("low"),
                field.metadata.get("high"),
                field.metadata.get("help", ""),
            )
        )
    return tuple(found)


def resolve_name(recipe: Recipe, name: str) -> str:
    """Full name of a parameter given in full or, where only one group has it, by its leaf."""
    known = parameters(recipe)
    if name in known:
        return name
    matches = [full for full in known if full.split(".", 1)[1] == name]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ValueError(f"parameter {name!r} is in several groups; write one of: {', '.join(matches)}")
    raise ValueError(f"recipe {recipe.name!r} has no parameter {name!r}{_nearest(name, known)}")


def configure(recipe: Recipe, preset: str, overrides: Mapping[str, Any]) -> Config:
    """The preset's values with `overrides` (full or leaf name -> value or its text) applied.

    ValueError names the parameter and its allowed values.
    """
    known = parameters(recipe)
    config = dict(recipe.defaults(preset))
    values: dict[str, Any] = {}
    for name, value in overrides.items():
        full = resolve_name(recipe, name)
        if full in values:
            raise ValueError(f"parameter {full} is set twice")
        values[full] = parse_value(known[full], value)
    for full, value in values.items():
        group, field = full.split(".", 1)
        config[group] = dataclasses.replace(config[group], **{field: value})
    return config


def parse_value(parameter: Parameter, value: Any) -> Any:
    """`value`, or the value that its text stands for, of the parameter's type and within its range."""
    try:
        parsed = _convert(parameter, value)
    except (TypeError, ValueError):
        raise ValueError(
            f"{parameter.name} = {value!r} is not allowed: it takes {parameter.describe_values()}"
        ) from None
    for number in parsed if isinstance(parsed, tuple) else (parsed,):
        if isinstance(number, int | float) and not _in_range(number, parameter):
            raise ValueError(
                f"{parameter.name} = {value!r} is out of range: it takes {parameter.describe_values()}"
            )
    return parsed


def to_flat(config: Config) -> dict[str, Any]:
    """{"group.field": value} with tuples as lists: what records, cache keys and tables hold."""
    flat = {}
    for group, values in config.items():
        for field in dataclasses.fields(values):
            value = getattr(values, field.name)
            flat[f"{group}.{field.name}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _resolve_type(hint: Any, name: str) -> tuple[type, bool, tuple[str, ...]]:
    optional = False
    if get_origin(hint) in (Union, types.UnionType):
        members = [member for member in get_args(hint) if member is not type(None)]
        optional = len(members) < len(get_args(hint))
        (hint,) = members
    if get_origin(hint) is Literal:
        return str, optional, get_args(hint)
    if get_origin(hint) is tuple:
        return tuple, optional, ()
    if hint in (int, float, bool, str):
        return hint, optional, ()
    raise TypeError(f"{name}: a config field cannot have the type {hint!r}")


def _convert(parameter: Parameter, value: Any) -> Any:
    text = value.strip().lower() if isinstance(value, str) else None
    if value is None or (parameter.optional and text in _NONE_WORDS):
        if parameter.optional:
            return None
        raise ValueError
    if parameter.choices:
        # A bare `true` in a file is a boolean even where it is one of the listed words.
        word = str(value).lower() if isinstance(value, bool) else value
        if word not in parameter.choices:
            raise ValueError
        return word
    if parameter.type is bool:
        if isinstance(value, bool):
            return value
        if text in _TRUE_WORDS or text in _FALSE_WORDS:
            return text in _TRUE_WORDS
        raise ValueError
    if parameter.type is tuple:
        items = value.strip("[]() ").split(",") if isinstance(value, str) else value
        return tuple(_number(item, float) for item in items)
    if parameter.type is str:
        return str(value)
    return _number(value, parameter.type)


def _number(value: Any, number_type: type) -> int | float:
    if isinstance(value, bool):
        raise ValueError
    number = float(value)
    if number_type is float:
        return number
    if not number.is_integer():
        raise ValueError
    return int(number)


def _in_range(number: float, parameter: Parameter) -> bool:
    return (
        math.isfinite(number)
        and (parameter.low is None or number >= parameter.low)
        and (parameter.high is None or number <= parameter.high)
    )


def _nearest(name: str, known: Mapping[str, Parameter]) -> str:
    leaves: dict[str, str] = {}
    for full in known:
        leaves.setdefault(full.split(".", 1)[1], full)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    close += [leaves[leaf] for leaf in difflib.get_close_matches(name, leaves, n=3, cutoff=0.6)]
    nearest = list(dict.fromkeys(close))[:3]
    return f"; did you mean {' or '.join(nearest)}?" if nearest else f"; it has: {', '.join(known)}"
