"""The live view of a running study: a small table on a terminal, a line per event elsewhere."""

import time
from collections import Counter
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from study.rows import Row

GROUPS: Final = ("pretrain", "search", "confirm", "ablation")
_EPOCH_LINES_EVERY_S: Final = 60.0
_UNENDED: Final = ("running", "waiting")


class Tally:
    """Counts what a study has done, from the rows of its ledger and the news of its trials."""

    def __init__(
        self, totals: Mapping[str, int], objective: str, direction: str, concurrency: int, last_stage: str
    ) -> None:
        self.totals = dict(totals)
        self.objective = objective
        self.rows: dict[int, Row] = {}
        self._sign = 1 if direction == "max" else -1
        self._concurrency = concurrency
        self._last_stage = last_stage
        self._counts: dict[str, Counter[str]] = {group: Counter() for group in GROUPS}
        self._spent_s = {True: 0.0, False: 0.0}  # by ended trials of the last stage, and of those before
        self._ended = {True: 0, False: 0}
        self._users: Counter[str] = Counter()  # of each pretrained model
        self._best: tuple[float, Row] | None = None

    def note(self, row: Row) -> None:
        """Take in a row as it is now; one that was superseded no longer counts."""
        before = self.rows.get(row.trial)
        if before is not None:
            self._count(before, -1)
        if row.superseded is None:
            self.rows[row.trial] = row
            self._count(row, 1)
        else:
            self.rows.pop(row.trial, None)
        if self._best is not None and self._best[1].trial == row.trial:
            self._best = None
            for other in self.rows.values():
                self._compare(other)
        else:
            self._compare(row)

    def _count(self, row: Row, times: int) -> None:
        is_last = row.cell.stage == self._last_stage
        self._counts[self.group(row)][row.status] += times
        if is_last and row.cell.pretrain_key:
            self._users[row.cell.pretrain_key] += times
        if row.status not in _UNENDED:
            self._ended[is_last] += times
            self._spent_s[is_last] += times * row.spent("wall_s")

    def _compare(self, row: Row) -> None:
        if row.status == "complete" and row.superseded is None and row.cell.proposal is not None:
            value = row.result["metrics"][self.objective]
            if self._best is None or self._sign * value > self._sign * self._best[0]:
                self._best = value, row

    def group(self, row: Row) -> str:
        """Return the line that a trial is counted in."""
        return row.cell.phase if row.cell.stage == self._last_stage else "pretrain"

    def counts(self) -> dict[str, Counter[str]]:
        """Return, for each group, how many trials have each status."""
        return self._counts

    def ended(self) -> int:
        """Return how many trials have ended."""
        return sum(self._ended.values())

    def total(self) -> int:
        """Return how many trials there will be at the most, as far as is known (a gate may add some)."""
        return sum(max(self.totals[group], counts.total()) for group, counts in self._counts.items())

    def best(self) -> tuple[float, Row] | None:
        """Return the best objective of a complete search or confirmation run so far."""
        return self._best

    def shared(self) -> int:
        """Return how many fine-tunings started from a pretrained model that another one had used before."""
        return sum(max(users - 1, 0) for users in self._users.values())

    def seconds_left(self) -> float | None:
        """Estimate the time left from the mean time of finished trials; None before the first of them."""
        if not self._ended[True]:
            return None
        left = 0.0
        for group, counts in self._counts.items():
            is_last = group != "pretrain"
            ended = sum(count for status, count in counts.items() if status not in _UNENDED)
            mean_s = self._spent_s[is_last] / max(self._ended[is_last], 1)
            left += max(self.totals[group] - ended, 0) * mean_s
        return left / self._concurrency


class PlainDisplay(AbstractContextManager["PlainDisplay"]):
    """Prints a line when a trial starts and ends, and now and then while long epochs pass."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._console = console
        self._tally = tally
        self._last_line_s = time.monotonic()
        self._wait_lines_every_s = 0.0  # the first one comes at once

    def started(self, row: Row) -> None:
        self._tally.note(row)
        self._line(f"start    {_name(row)}")

    def epoch(self, row: Row, epoch: int) -> None:
        self._tally.note(row)
        if time.monotonic() - self._last_line_s >= _EPOCH_LINES_EVERY_S:
            self._line(f"epoch    {_name(row)}: epoch {epoch}")

    def ended(self, row: Row) -> None:
        self._tally.note(row)
        self._line(f"{row.status:<9}{_name(row)}{_outcome(row, self._tally.objective)}")

    def superseded(self, row: Row) -> None:
        self._tally.note(row)
        self._line(f"again    {_name(row)}: {row.superseded}")

    def waits(self, text: str | None) -> None:
        """Say once a minute why nothing runs."""
        if text is not None and time.monotonic() - self._last_line_s >= self._wait_lines_every_s:
            self._wait_lines_every_s = _EPOCH_LINES_EVERY_S
            self._line(text)
        elif text is None:
            self._wait_lines_every_s = 0.0

    def __exit__(self, *_: object) -> None:
        return None

    def _line(self, text: str) -> None:
        self._last_line_s = time.monotonic()
        ended, total = self._tally.ended(), self._tally.total()
        self._console.print(f"[{ended:>3}/{total}] {text}", markup=False, highlight=False, soft_wrap=True)


class LiveDisplay(AbstractContextManager["LiveDisplay"]):
    """A table that is redrawn in place: phases, trials, the best so far, time left."""

    def __init__(self, console: Console, tally: Tally) -> None:
        self._tally = tally
        self._waits: str | None = None
        self._started_s = time.monotonic()
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4, transient=True)

    def started(self, row: Row) -> None:
        self._tally.note(row)

    def epoch(self, row: Row, epoch: int) -> None:
        self._tally.note(row)

    def ended(self, row: Row) -> None:
        self._tally.note(row)
        if row.status == "failed":
            self._live.console.print(f"failed {_name(row)}: {row.failure}", style="red", markup=False)

    def superseded(self, row: Row) -> None:
        self._tally.note(row)
        self._live.console.print(f"again {_name(row)}: {row.superseded}", markup=False)

    def waits(self, text: str | None) -> None:
        """Show why nothing runs, until None is said."""
        self._waits = text

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def render(self) -> Group:
        """Draw the present state."""
        table = Table(box=None, padding=(0, 2, 0, 0))
        table.add_column("phase")
        for name in ("done", "running", "stopped", "failed", "of"):
            table.add_column(name, justify="right")
        for group, counts in self._tally.counts().items():
            ended = counts["complete"] + counts["stopped"] + counts["failed"]
            total = max(self._tally.totals[group], counts.total())
            if not total:
                continue  # a study without a search, or without stages before the last
            mark = "✓" if ended >= total and not counts["running"] else "▸" if counts["running"] else " "
            table.add_row(
                f"{mark} {group}",
                *(str(counts[status] or "·") for status in ("complete", "running", "stopped", "failed")),
                str(total),
            )
        lines = [] if self._waits is None else [Text(self._waits, style="yellow")]
        return Group(table, *lines, Text(self._summary(), style="dim"))

    def _summary(self) -> str:
        parts = [f"{show_duration(time.monotonic() - self._started_s)} elapsed"]
        left = self._tally.seconds_left()
        if left is not None:
            parts.append(f"about {show_duration(left)} left")
        best = self._tally.best()
        if best is not None:
            parts.append(f"best {self._tally.objective} {best[0]:.1f} (proposal {best[1].cell.proposal})")
        if self._tally.totals["pretrain"]:
            parts.append(f"pretrained models shared {self._tally.shared()} times")
        return " · ".join(parts)


Display = PlainDisplay | LiveDisplay


def make_display(console: Console, tally: Tally) -> Display:
    """Return the display that fits the console: redrawn on a terminal, lines elsewhere."""
    return LiveDisplay(console, tally) if console.is_terminal else PlainDisplay(console, tally)


def _name(row: Row) -> str:
    cell = row.cell
    what = cell.arm or (f"proposal {cell.proposal}" if cell.proposal is not None else f"for {cell.phase}")
    return f"trial {row.trial}: {cell.stage}, {what}, seed {cell.seed}"


def _outcome(row: Row, objective: str) -> str:
    if row.status == "failed":
        return f": {row.failure}"
    if row.status == "waiting":
        return f" after epoch {row.last_epoch}: {row.failures[-1].message}"
    value = row.result.get("metrics", {}).get(objective)
    if value is not None:
        return f": {objective} {value:.1f}"
    return f" after epoch {row.last_epoch}"


def show_duration(seconds: float) -> str:
    """Write a time span for a reader."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours} h {minutes:02} min"
        if hours
        else f"{minutes} min {seconds:02} s"
        if minutes
        else f"{seconds} s"
    )
