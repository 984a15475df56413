"""What a parameter may be searched over: small frozen types that know no sampler."""

import math
from collections.abc import Iterable, Mapping
from typing import Annotated, ClassVar, TypeGuard

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    PlainValidator,
    PositiveInt,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from study._checks import nearest, show


def _scalar(value: object) -> object:
    if not isinstance(value, bool | int | float | str | None):
        raise ValueError(f"must be a number, text, true, false or null, not {show(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"must be a finite number, not {value}")
    return value


def _setting(value: object) -> object:
    return tuple(map(_scalar, value)) if isinstance(value, tuple) else _scalar(value)


# Checked by hand: pydantic would report a mistake once for every member of the union.
Scalar = Annotated[bool | int | float | str | None, PlainValidator(_scalar)]
Setting = Annotated[bool | int | float | str | tuple[Scalar, ...] | None, PlainValidator(_setting)]
Settings = Mapping[str, Setting]


class SpecModel(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _only_known_keys(cls, data: object) -> object:
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for key in data if isinstance(data, dict) else ():
            if key not in known:
                raise PydanticCustomError("unknown_key", "{hint}", {"key": key, "hint": nearest(key, known)})
        return data


class _Conditional(SpecModel):
    when: Mapping[str, Annotated[tuple[Scalar, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Searched only while each of these other parameters has one of the listed values."""


class FloatRange(_Conditional):
    """Numbers from low to high, both included; `log`: uniform in the logarithm."""

    kind: ClassVar[str] = "float"
    bounds: tuple[FiniteFloat, FiniteFloat] = Field(alias="float")
    log: bool = False

    @property
    def low(self) -> float:
        return self.bounds[0]

    @property
    def high(self) -> float:
        return self.bounds[1]

    @property
    def extremes(self) -> tuple[float, ...]:
        return self.bounds

    def contains(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high

    @model_validator(mode="after")
    def _check(self) -> "FloatRange":
        _check_bounds(self.low, self.high, self.log)
        return self


class IntRange(_Conditional):
    """Whole numbers low, low + step, ... high; `log`: uniform in the logarithm, with step 1."""

    kind: ClassVar[str] = "int"
    bounds: tuple[int, int] = Field(alias="int")
    step: PositiveInt = 1
    log: bool = False

    @property
    def low(self) -> int:
        return self.bounds[0]

    @property
    def high(self) -> int:
        return self.bounds[1]

    @property
    def extremes(self) -> tuple[int, ...]:
        return self.bounds

    def contains(self, value: object) -> bool:
        return _is_number(value) and self.low <= value <= self.high and (value - self.low) % self.step == 0

    @model_validator(mode="after")
    def _check(self) -> "IntRange":
        _check_bounds(self.low, self.high, self.log)
        excess = (self.high - self.low) % self.step
        if excess:
            reached = f"{self.high - excess} or {self.high - excess + self.step}"
            raise ValueError(f"steps of {self.step} from {self.low} miss {self.high}; end at {reached}")
        if self.log and self.step != 1:
            raise ValueError("log needs step 1; drop one of the two")
        return self


class Choice(_Conditional):
    """One of several values without an order."""

    kind: ClassVar[str] = "choice"
    options: tuple[Scalar, ...] = Field(alias="choice", min_length=2)

    @property
    def extremes(self) -> tuple[Scalar, ...]:
        return self.options

    def contains(self, value: object) -> bool:
        return among(value, self.options)

    @model_validator(mode="after")
    def _check(self) -> "Choice":
        for index, option in enumerate(self.options):
            if among(option, self.options[:index]):
                raise ValueError(f"{show(option)} is listed twice; keep one")
        return self


def _kind(data: object) -> str | None:
    if isinstance(data, FloatRange | IntRange | Choice):
        return data.kind
    kinds = (FloatRange.kind, IntRange.kind, Choice.kind)
    return next((kind for kind in kinds if isinstance(data, dict) and kind in data), None)


Distribution = Annotated[
    Annotated[FloatRange, Tag("float")] | Annotated[IntRange, Tag("int")] | Annotated[Choice, Tag("choice")],
    Discriminator(
        _kind,
        custom_error_type="no_distribution",
        custom_error_message="needs one of float: [low, high], int: [low, high], choice: [a, b]",
    ),
]


def among(value: object, options: Iterable[object]) -> bool:
    """Whether one of `options` is `value`, keeping true and false apart from 1 and 0."""
    return any(option == value and isinstance(option, bool) == isinstance(value, bool) for option in options)


def _is_number(value: object) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _check_bounds(low: float, high: float, log: bool) -> None:
    if not low < high:
        raise ValueError(f"low {low} is not below high {high}; swap or widen them")
    if log and low <= 0:
        raise ValueError(f"a log range needs a low above 0, not {low}")
