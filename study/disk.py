"""A full disk: seen coming before the start, and room kept for the last words of a study that meets it."""

import errno
import os
import shutil
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from study.ledger_location import LedgerLost
from study.plan import LaunchError
from study.store import Store

BALLAST: Final = ".ballast"
_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_BALLAST_BYTES: Final = 8 << 20  # the states of running trials, and the tables of some thousand trials


class Ballast:
    """A file in the study's folder that is given up when the disk is full, or at the end.

    Its blocks are really allocated, so that the last records can still be written. Nothing on a remote store,
    and nothing where the disk is too full for it already.
    """

    def __init__(self, store: Store, size: int = _BALLAST_BYTES) -> None:
        self._path = None if store.local is None else store.local / BALLAST
        self._size = size

    def __enter__(self) -> "Ballast":
        if self._path is not None:
            try:
                with self._path.open("wb") as file:
                    _allocate(file.fileno(), self._size)
            except OSError:
                self.release()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the room to others."""
        if self._path is not None:
            with suppress(OSError):
                self._path.unlink(missing_ok=True)


def _allocate(file: int, size: int) -> None:
    try:
        os.posix_fallocate(file, 0, size)
    except AttributeError:  # macOS
        os.write(file, os.urandom(size))


def is_disk_full(error: BaseException) -> bool:
    """Say whether an error, or what caused it, is a full disk or a used-up quota."""
    words = [os.strerror(number) for number in _FULL]
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, OSError) and at.errno in _FULL:
            return True
        if isinstance(at, LedgerLost) and any(word in str(at) for word in words):
            return True  # its cause may have been lost on the way through another library
        at = at.__cause__ or at.__context__
    return False


def check_disk(free: int | None, need: int, one_round: int, place: str | Path) -> str | None:
    """Compare what is free with what a study needs, both in bytes; return a warning, if there is reason.

    `one_round` is what the trials that run at once need. `free` is None where no limit is known.
    Raises LaunchError if not even those fit.
    """
    if free is None or free >= need:
        return None
    if free < one_round:
        raise LaunchError(
            f"{place} has {show_bytes(free)} free, and the trials that run at once need about "
            f"{show_bytes(one_round)}: free some space, choose another --out, or lower --concurrency"
        )
    return (
        f"warning: {place} has {show_bytes(free)} free and the study needs about {show_bytes(need)}: "
        "it will stop when the disk is full, and go on once there is space"
    )


def disk_full_message(place: Path, trials_left: int, bytes_per_trial: float) -> str:
    """Return what a study that has filled its disk has to say; `place` lies on that disk."""
    free = shutil.disk_usage(place).free
    message = f"the disk of {place} is full ({show_bytes(free)} free)"
    if trials_left > 0 and bytes_per_trial > 0:
        needed = show_bytes(trials_left * bytes_per_trial)
        message += f"; the {trials_left} trials that are left need about {needed}"
    return message + "; free some space"


def folder_bytes(folder: Path) -> int:
    """Return what the files below a folder hold on the disk."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            if name != BALLAST:
                with suppress(FileNotFoundError):
                    total += os.lstat(os.path.join(path, name)).st_blocks * 512
    return total


def show_bytes(count: float) -> str:
    """Write a number of bytes for a reader, in decimal units."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"
