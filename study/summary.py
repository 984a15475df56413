"""What a launch did, and what went wrong in it: counts, causes, costs, and what to do."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.table import Table

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


def trouble_table(troubles: Sequence[Trouble]) -> Table:
    """Draw what failed, why, what it cost, and what to do."""
    table = Table(
        title="What failed", title_justify="left", box=None, padding=(0, 2, 0, 0), title_style="bold"
    )
    table.add_column("kind", no_wrap=True)
    for name in ("times", "trials lost", "time lost"):
        table.add_column(name, justify="right")
    table.add_column("first case", overflow="fold")
    table.add_column("what to do", overflow="fold")
    for trouble in troubles:
        table.add_row(
            trouble.kind,
            str(trouble.attempts),
            str(trouble.trials_failed) if trouble.trials_failed else "·",
            show_duration(trouble.lost_s),
            trouble.example,
            trouble.fix,
        )
    return table


def count_statuses(rows: Iterable[Row]) -> Counter[str]:
    """Count the trials that count by their status."""
    return Counter(row.status for row in rows)
