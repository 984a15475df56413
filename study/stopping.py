"""What ends a study before its time: Ctrl-C, the preemption of the machine, a time budget.

A signal handler only takes note; `poll`, which the driver calls several times a second, does what is to be
done. A second Ctrl-C stops at once, and a third one gets out of anything that does not come back.
"""

import signal
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Final, Protocol

from study.progress import show_duration

INTERRUPTED: Final = 130
TERMINATED: Final = 143
BUDGET_USED_UP: Final = 3
FAILED: Final = 1
# What runs a command may forward a Ctrl-C that the terminal has sent to the command as well.
_SAME_SIGNAL_S: Final = 0.5
_CHECK_EVERY_S: Final = 1.0


class Stoppable(Protocol):
    """What is to be stopped (study.agenda.Agenda)."""

    stopping: str | None

    def stop(self, reason: str) -> None: ...


class Stops:
    """Watches for what is to end a study while the block runs, which must be in the main thread.

    - Ctrl-C (SIGINT): nothing new starts and what runs stops after its running epoch. Once more: stops now.
    - SIGTERM, the warning of a machine that is taken away: as Ctrl-C, and `grace_s` seconds later: now.
    - The end of the time budget, counted from here: likewise, so that a study that was given two hours ends
      within two hours and `grace_s`; a longer epoch is given up, and trained again by the next launch.

    `check` is called about once a second, and raises if the study may not go on at all.
    """

    def __init__(
        self,
        agenda: Stoppable,
        *,
        time_budget_s: float | None = None,
        grace_s: float = 25.0,
        say: Callable[[str], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        self.exit_status = 0
        self._check = check
        self._checked_s = clock()
        self._agenda = agenda
        self._budget_s = time_budget_s
        self._grace_s = grace_s
        self._say = say or _print
        self._clock = clock
        self._budget_ends_s = float("inf") if time_budget_s is None else clock() + time_budget_s
        self._ends_s = float("inf")  # nothing is waited for any longer
        self._interrupts: list[float] = []
        self._terminated_s: float | None = None
        self._former: dict[int, Any] = {}

    def __enter__(self) -> "Stops":
        for number, handler in ((signal.SIGINT, self._on_interrupt), (signal.SIGTERM, self._on_terminate)):
            self._former[number] = signal.signal(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @property
    def reason(self) -> str | None:
        """Why the study ends before its time; None as long as it does not."""
        return self._agenda.stopping

    def poll(self) -> bool:
        """Do what has been asked for since the last call; return True if not even a running epoch may end."""
        now_s = self._clock()
        if now_s - self._checked_s >= _CHECK_EVERY_S:
            self._checked_s = now_s
            self._check()
        if self._interrupts:
            self._stop("interrupted by Ctrl-C", INTERRUPTED, "Ctrl-C again stops now")
        if self._terminated_s is not None:
            self._ends_s = min(self._ends_s, self._terminated_s + self._grace_s)
            self._stop("told to end by SIGTERM", TERMINATED, f"in {self._grace_s:g} s at the latest")
        if now_s >= self._budget_ends_s and self._budget_s is not None:
            self._ends_s = min(self._ends_s, self._budget_ends_s + self._grace_s)
            reason = f"the time budget of {show_duration(self._budget_s)} is used up"
            self._stop(reason, BUDGET_USED_UP, f"in {self._grace_s:g} s at the latest")
        if self._agenda.stopping is not None and self.exit_status == 0:
            self.exit_status = FAILED  # the agenda has stopped itself
            self._say(f"{self._agenda.stopping}: stopping after the running epochs")
        return len(self._interrupts) > 1 or now_s >= self._ends_s

    def _stop(self, reason: str, exit_status: int, then: str) -> None:
        if self._agenda.stopping is None:
            self._agenda.stop(reason)
            self.exit_status = exit_status
            self._say(f"{reason}: stopping after the running epochs; {then}")

    # Handlers run between any two instructions of the main thread: no printing, no locks.

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        now_s = self._clock()
        if self._interrupts and now_s - self._interrupts[-1] < _SAME_SIGNAL_S:
            return
        self._interrupts.append(now_s)
        if len(self._interrupts) > 2:
            raise KeyboardInterrupt

    def _on_terminate(self, number: int, frame: FrameType | None) -> None:
        if self._terminated_s is None:
            self._terminated_s = self._clock()


def _print(text: str) -> None:
    print(text, flush=True)
