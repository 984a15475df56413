"""What a launch did, and what went wrong in it: counts, causes, costs, and what to do."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.text import Text

from study.failures import FIXES, Failure, FailureKind
from study.progress import show_duration
from study.rows import Row

_QUIET: tuple[FailureKind, ...] = ("cancelled", "driver_lost")  # the user knows of them


@dataclass(frozen=True)
class Trouble:
    """All failures of one kind."""

    kind: FailureKind
    attempts: int
    trials_failed: int  # for good
    lost_s: float  # wall time of the epochs that were cut short
    example: str
    fix: str


def find_trouble(rows: Iterable[Row]) -> list[Trouble]:
    """Collect the failures of the trials that count, the most frequent kind first."""
    rows = list(rows)
    found: dict[FailureKind, list[tuple[Row, Failure | None]]] = {}
    for row in rows:
        for failure in row.failures:
            found.setdefault(failure.kind, []).append((row, failure))
        if row.failure_kind == "pretrain_failed":
            found.setdefault("pretrain_failed", []).append((row, None))
    return sorted(
        (_trouble(kind, cases) for kind, cases in found.items() if kind not in _QUIET),
        key=lambda trouble: (-trouble.trials_failed, -trouble.attempts, trouble.kind),
    )


def _trouble(kind: FailureKind, cases: Sequence[tuple[Row, Failure | None]]) -> Trouble:
    row, failure = cases[0]
    message = failure.message if failure is not None else row.failure or ""
    failed = {row.trial for row, _ in cases if row.status == "failed" and row.failure_kind == kind}
    return Trouble(
        kind=kind,
        attempts=len(cases),
        trials_failed=len(failed),
        lost_s=sum(failure.lost_s for _, failure in cases if failure is not None),
        example=f"trial {row.trial}: {message}",
        fix=FIXES[kind],
    )


def trouble_table(troubles: Sequence[Trouble]) -> RenderableType:
    """Draw what failed, why, what it cost, and what to do.

    Print it with `soft_wrap=True`: a message that is cut into lines can be neither searched nor copied.
    """
    width = max((len(trouble.kind) for trouble in troubles), default=0)
    lines = [Text("What failed", style="bold")]
    for trouble in troubles:
        lines += [
            Text(f"  {trouble.kind:<{width}}  {', '.join(_costs(trouble))}"),
            Text(f"    first: {trouble.example}"),
            Text(f"    to do: {trouble.fix}"),
        ]
    return Group(*lines)


def _costs(trouble: Trouble) -> Iterator[str]:
    yield "once" if trouble.attempts == 1 else f"{trouble.attempts} times"
    if trouble.trials_failed:
        yield f"{trouble.trials_failed} {'trial' if trouble.trials_failed == 1 else 'trials'} lost"
    if trouble.lost_s:
        yield f"{show_duration(trouble.lost_s)} of work lost"


def count_statuses(rows: Iterable[Row]) -> Counter[str]:
    """Count the trials that count by their status."""
    return Counter(row.status for row in rows)
