"""A trial's record beside what the same trial gives now: what differs, by how much, and since when."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa
import torch
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

ON_RECORD: Final = "on record, not now"
NOW: Final = "now, not on record"
_MOST_ROWS: Final = 25


@dataclass(frozen=True)
class Difference:
    """How the values of one quantity differ; without sizes where it has none (texts, something missing)."""

    quantity: str
    count: int = 1  # of the values that differ
    absolute: float | None = None  # the largest difference
    relative: float | None = None  # the largest one as a share of the value on record
    first_epoch: int | None = None
    words: str = ""


@dataclass
class Part:
    """One trial, compared."""

    title: str
    compared: list[str] = field(default_factory=list)  # "10 epochs × 14 values", "30 final metrics", ...
    differences: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Comparison:
    """A trial, after the pretrainings that had to be run again for it, and what is unlike on record."""

    parts: tuple[Part, ...]
    surroundings: tuple[str, ...]  # differences of versions, machine, device, ..., in words

    @property
    def identical(self) -> bool:
        """Whether everything that was compared is equal to the bit."""
        return not any(part.differences for part in self.parts)

    def render(self) -> RenderableType:
        """Draw it for a terminal."""
        lines: list[RenderableType] = []
        if self.surroundings:
            lines.append(Text("unlike when the record was made:"))
            lines += [Text(f"  {line}") for line in self.surroundings]
        elif not self.identical:
            lines.append(Text("versions, machine, threads and data are those of the record"))
        for part in self.parts:
            lines.append(Text(part.title, style="bold"))
            lines += [Text(f"  {note}") for note in part.notes]
            compared = ", ".join(part.compared)
            if part.differences:
                lines += [Text(f"  these differ, of {compared}:", style="red"), _table(part.differences)]
            else:
                lines.append(Text(f"  identical to the bit: {compared}", style="green"))
        return Group(*lines)


def counted(number: int, word: str) -> str:
    """Return "1 234 detections" or "1 detection"."""
    return f"{number:,} {word}".replace(",", " ") + ("" if number == 1 else "s")


def compare_values(quantity: str, values: Iterable[tuple[int | None, Any, Any]]) -> list[Difference]:
    """Compare (epoch, on record, now) of one quantity, in the order of epochs; None is a missing value."""
    sizes: list[tuple[float, float] | None] = []
    missing = {ON_RECORD: 0, NOW: 0}
    first_epoch: int | None = None
    for epoch, recorded, now in values:
        if _same(recorded, now):
            continue
        first_epoch = epoch if first_epoch is None else first_epoch
        if recorded is None or now is None:
            missing[NOW if recorded is None else ON_RECORD] += 1
        else:
            sizes.append(_sizes(_number(recorded), _number(now)))
    numbers = [size for size in sizes if size is not None]
    found = [
        Difference(
            quantity,
            len(sizes),
            max((absolute for absolute, _ in numbers), default=None),
            max((relative for _, relative in numbers), default=None),
            first_epoch,
        ),
        *(Difference(quantity, count, None, None, first_epoch, words) for words, count in missing.items()),
    ]
    return [difference for difference in found if difference.count]


def compare_metrics(recorded: Mapping[str, float], now: Mapping[str, float]) -> list[Difference]:
    """Compare final metrics of equal names."""
    names = dict.fromkeys((*recorded, *now))
    return [
        difference
        for name in names
        for difference in compare_values(f"final {name}", [(None, recorded.get(name), now.get(name))])
    ]


def compare_epochs(
    recorded: Mapping[int, Mapping[str, float]], now: Mapping[int, Mapping[str, float]]
) -> list[Difference]:
    """Compare the values of every epoch that is on record or has been run."""
    epochs = sorted({*recorded, *now})
    names = dict.fromkeys(name for metrics in (*recorded.values(), *now.values()) for name in metrics)

    def values(name: str) -> Iterator[tuple[int, float | None, float | None]]:
        for epoch in epochs:
            yield epoch, recorded.get(epoch, {}).get(name), now.get(epoch, {}).get(name)

    return [difference for name in names for difference in compare_values(name, values(name))]


def compare_tables(what: str, recorded: pa.Table, now: pa.Table) -> list[Difference]:
    """Compare tables row by row."""
    if len(recorded) != len(now):
        words = f"{len(recorded)} on record, {len(now)} now"
        return [Difference(what, abs(len(recorded) - len(now)), words=words)]
    names = dict.fromkeys((*recorded.column_names, *now.column_names))

    def values(name: str) -> Iterator[tuple[None, Any, Any]]:
        for before, after in zip(_cells(recorded, name), _cells(now, name), strict=True):
            yield None, before, after

    return [
        difference for name in names for difference in compare_values(f"{name} of the {what}", values(name))
    ]


def compare_weights(recorded: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> list[Difference]:
    """Compare weights of equal names."""
    names = dict.fromkeys((*recorded, *now))
    unlike = [
        name
        for name in names
        if name not in recorded or name not in now or recorded[name].shape != now[name].shape
    ]
    if unlike:
        return [
            Difference("exported weights", len(unlike), words=f"other names or shapes: {', '.join(unlike)}")
        ]
    before = torch.cat([recorded[name].flatten().double() for name in names])
    after = torch.cat([now[name].flatten().double() for name in names])
    differs = (before != after) & ~(before.isnan() & after.isnan())
    if not differs.any():
        return []
    absolute = (after - before).abs()[differs].nan_to_num(math.inf)
    relative = (absolute / before[differs].abs()).nan_to_num(math.inf)
    return [Difference("exported weights", int(differs.sum()), absolute.max().item(), relative.max().item())]


def _cells(table: pa.Table, name: str) -> list[Any]:
    return table[name].to_pylist() if name in table.column_names else [None] * len(table)


def _same(recorded: Any, now: Any) -> bool:
    # The shortest text of a float is that of no other one, tells -0.0 from 0.0, and NaN equals itself.
    return repr(_number(recorded)) == repr(_number(now))


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, int | float) else value


def _sizes(recorded: Any, now: Any) -> tuple[float, float] | None:
    """The absolute and relative difference of two numbers, infinite where either is not finite."""
    if not (isinstance(recorded, float) and isinstance(now, float)):
        return None
    if not (math.isfinite(recorded) and math.isfinite(now)):
        return math.inf, math.inf
    absolute = abs(now - recorded)
    return absolute, absolute / abs(recorded) if recorded else math.inf


def _table(differences: Sequence[Difference]) -> RenderableType:
    """Draw differences: those without a size, then by their share of the value on record."""
    table = Table(box=None, padding=(0, 2, 0, 2))
    table.add_column("quantity", overflow="fold")
    for name in ("values", "largest", "relative", "from epoch"):
        table.add_column(name, justify="right")
    table.add_column("", overflow="fold")
    ranked = sorted(differences, key=lambda found: -math.inf if found.relative is None else -found.relative)
    for found in ranked[:_MOST_ROWS]:
        table.add_row(
            Text(found.quantity),
            str(found.count),
            _show(found.absolute),
            _show(found.relative),
            _show(found.first_epoch),
            Text(found.words),
        )
    more = len(ranked) - _MOST_ROWS
    return Group(table, Text(f"  and {more} more, all smaller")) if more > 0 else table


def _show(number: float | None) -> str:
    return "·" if number is None else f"{number:.2g}" if isinstance(number, float) else str(number)
