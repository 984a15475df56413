"""The storages of a ledger behind Optuna's interface: a journal file, SQLite, PostgreSQL."""

import json
import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileSymlinkLock

from study.ledger_database import Database, Stored, open_postgresql, open_sqlite
from study.ledger_hold import Hold, hold
from study.ledger_journal import damaged_line
from study.ledger_location import LedgerBusy, LedgerError, LedgerLocation, LedgerLost

__all__ = [
    "Hold",
    "LedgerBusy",
    "LedgerError",
    "LedgerLocation",
    "LedgerLost",
    "Stored",
    "has_study",
    "hold",
    "open_storage",
    "open_study",
    "read_trials",
    "together",
]


def open_storage(location: LedgerLocation, held: Hold | None = None) -> BaseStorage:
    """Open a ledger's storage, made if it is new. Whoever writes it holds it; a reader need not.

    Raises LedgerError.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    match location.kind:
        case "journal":
            assert location.path is not None
            return _open_journal(location.path)
        case "sqlite":
            return open_sqlite(location, held)
        case "postgresql":
            return open_postgresql(location, held)


def has_study(storage: BaseStorage, name: str) -> bool:
    """Say whether a storage has a study of this name."""
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return False
    return True


def open_study(
    storage: BaseStorage, name: str, direction: Literal["minimize", "maximize"] = "maximize"
) -> optuna.Study:
    """Return one of a storage's studies, made if it is new."""
    try:
        return optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return optuna.create_study(study_name=name, storage=storage, direction=direction, load_if_exists=True)


def together(storage: BaseStorage) -> AbstractContextManager[None]:
    """Let the writes of a block reach the disk as one at its end, if the storage can."""
    return storage.together() if isinstance(storage, Journal) else nullcontext()


def read_trials(storage: BaseStorage, study: int) -> Iterator[Stored]:
    """Yield the trials of a study in order."""
    if isinstance(storage, Database):
        yield from storage.read_trials(study)
        return
    for trial in storage.get_all_trials(study, deepcopy=False):
        yield Stored(trial._trial_id, trial.number, trial.state, trial.user_attrs)


class _JournalFile(BaseJournalBackend):
    """A journal in Optuna's format that one process writes; each append is on the disk whole or not at all.

    Optuna reads back what it has appended before it knows it. Appends within `together` are read back from
    memory, and reach the disk as one at its end; if they cannot, as on a full disk, they do with the next.
    """

    def __init__(self, path: Path) -> None:
        path.open("ab").close()
        self.lines_read = 0
        self._path = path
        self._lock = JournalFileSymlinkLock(str(path))
        self._offset = 0  # of what has not been read
        self._gathers = False
        self._gathered: list[bytes] = []
        self._returned = 0  # how many of those have been read

    @contextmanager
    def together(self) -> Iterator[None]:
        """Append what the block appends at its end."""
        if self._gathers:
            yield
            return
        self._gathers = True
        try:
            yield
        finally:
            self._gathers = False
            if self._gathered:
                self.append_logs([])

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        assert log_number_from == self.lines_read
        while self._returned < len(self._gathered):
            self._returned += 1
            self.lines_read += 1
            yield json.loads(self._gathered[self._returned - 1])
        if self._gathered:
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return  # another process is writing it
                log = json.loads(line)
                self._offset += len(line)
                self.lines_read += 1
                yield log

    def append_logs(self, logs: Iterable[dict[str, Any]]) -> None:
        lines = [json.dumps(log, separators=(",", ":")).encode() + b"\n" for log in logs]
        if self._gathers:
            self._gathered += lines
            return
        try:
            self._append(lines)
        except OSError as error:
            raise LedgerLost(f"cannot write the ledger {self._path}: {error.strerror}") from error
        self._offset += sum(len(line) for line in self._gathered)
        self._gathered, self._returned = [], 0

    def _append(self, lines: list[bytes]) -> None:
        size = self._path.stat().st_size
        if self._gathered and size != self._offset:
            raise LedgerLost(f"cannot write the ledger {self._path}: another process has written to it")
        self._lock.acquire()
        try:
            with self._path.open("ab") as file:
                file.write(b"".join([*self._gathered, *lines]))
                file.flush()
                os.fsync(file.fileno())
        except BaseException:  # as that of Ctrl-C, after which the study is still to be left in order
            with suppress(OSError):
                os.truncate(self._path, size)
            raise
        finally:
            self._lock.release()


class Journal(JournalStorage):
    """Optuna's storage of a journal file, with writes that belong together."""

    def __init__(self, file: _JournalFile) -> None:
        super().__init__(file)
        self.together = file.together


def _open_journal(path: Path) -> BaseStorage:
    try:
        file = _JournalFile(path)
        return Journal(file)
    except OSError as error:
        raise LedgerError(
            f"cannot open the ledger {path} ({error.strerror}); mend its folder or choose another place"
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        # Either no JSON, or nothing that Optuna understands.
        line = damaged_line(path) or file.lines_read
        raise LedgerError(
            f"line {line} of the ledger {path} is damaged; restore the file from a copy, or cut it before "
            f"that line (sed -i '{line},$d' {path}): what the rest told is done again from the checkpoints"
        ) from error
