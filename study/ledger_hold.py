"""One driver for each study: whoever holds its ledger; another is refused, and the dead let go."""

import datetime
import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from study.ledger_journal import repair
from study.ledger_location import LedgerBusy, LedgerError, LedgerLocation, LedgerLost, refuse
from study.ledger_server import ConnectionCut, ServerLock, patiently


class Hold:
    """That this process drives a study.

    `notes` are what taking it has set right, for the user; `say` is told what happens on the way.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.notes: list[str] = []
        self.say = say

    def check(self) -> None:
        """Raise LedgerLost if the study is no longer held; to be called by the thread that writes."""


class _FileHold(Hold):
    def __init__(self, path: Path, file: BinaryIO, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._path = path
        self._file = file

    def check(self) -> None:
        if not _is_at(self._path, self._file):
            raise LedgerLost(
                f"the lock file {self._path} was removed or replaced while the study ran; look what has "
                "happened to its folder before you go on"
            )


class ServerHold(Hold):
    """A study held by a connection to the server; `connect` makes those that write its ledger."""

    def __init__(self, location: LedgerLocation, lock: ServerLock, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self._location = location
        self._lock = lock
        self.connect = lock.connect

    def check(self) -> None:
        patiently(self._lock.check, self._location, self.say)


@contextmanager
def hold(
    location: LedgerLocation, study_id: str, say: Callable[[str], None] = lambda _: None
) -> Iterator[Hold]:
    """Hold a study until the block, or this process, ends.

    Raises LedgerBusy if another driver does, LedgerError if it cannot be told.
    """
    if location.kind == "postgresql":
        try:
            lock = ServerLock(location, study_id)
        except ConnectionCut as cut:
            refuse(location, cut)
        with closing(lock):
            yield ServerHold(location, lock, say)
        return
    assert location.path is not None
    # One journal is one study; a database may have several.
    digest = hashlib.sha256(study_id.encode()).hexdigest()[:12]
    suffix = "" if location.kind == "journal" else f".{digest}"
    path = location.path.with_name(f".{location.path.name}{suffix}.driver")
    with _lock_file(path, location, say) as held:
        if location.kind == "journal":
            held.notes.extend(repair(location.path))
        yield held


@contextmanager
def _lock_file(path: Path, location: LedgerLocation, say: Callable[[str], None]) -> Iterator[_FileHold]:
    file = _open_locked(path, location)
    with file:
        try:
            since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            content = {"host": socket.gethostname(), "pid": os.getpid(), "since": since}
            with suppress(OSError):  # a full disk: held all the same, by a driver without a name
                file.truncate(0)
                file.write(json.dumps(content).encode())
            yield _FileHold(path, file, say)
        finally:
            if _is_at(path, file):
                path.unlink()


def _open_locked(path: Path, location: LedgerLocation) -> BinaryIO:
    while True:
        try:
            file = path.open("ab+", buffering=0)
        except OSError as error:
            raise LedgerError(
                f"cannot write beside the ledger {location} ({error.strerror}: {path}); mend its "
                "folder, or choose another place"
            ) from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LedgerBusy(_busy(location, file)) from error
        except OSError as error:
            file.close()
            raise LedgerError(
                f"the file system of {path} cannot lock files ({error.strerror}), so that two drivers could "
                "write one ledger; put it on a local disk or a database with --ledger"
            ) from error
        # Another driver may have removed the file, at its end, between the opening and the lock.
        if _is_at(path, file):
            return file
        file.close()


def _busy(location: LedgerLocation, file: BinaryIO) -> str:
    holder = "another process"
    with file, suppress(ValueError, KeyError):
        file.seek(0)
        known = json.loads(file.read())
        holder = f"process {known['pid']} on {known['host']}, since {known['since']},"
    return f"{holder} runs the study whose ledger is {location}; wait for it, or choose another --out"


def _is_at(path: Path, file: BinaryIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
