"""Keeps the tables of a running study fresh, so that analysis can show it before its end."""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_EVERY_S: Final = 10.0
_SHARE: Final = 0.01


class Refresh:
    """Calls `write` now and then, for at most one percent of the time that passes.

    What cannot be written is tried again later: the ledger is the truth, and notices a full disk itself.
    """

    def __init__(self, write: Callable[[], None], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._write = write
        self._clock = clock
        self._due_s = clock()

    def poll(self) -> None:
        """Write if it is time; to be called about once a second by the thread that changes the rows."""
        began_s = self._clock()
        if began_s < self._due_s:
            return
        with suppress(OSError):
            self._write()
        ended_s = self._clock()
        self._due_s = ended_s + max(_EVERY_S, (ended_s - began_s) / _SHARE)
