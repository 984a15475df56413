"""The storages of a ledger behind Optuna's interface: a journal file, SQLite, PostgreSQL."""

import os
from collections.abc import Generator, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

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


def read_trials(storage: BaseStorage, study: int) -> Iterator[Stored]:
    """Yield the trials of a study in order."""
    if isinstance(storage, Database):
        yield from storage.read_trials(study)
        return
    for trial in storage.get_all_trials(study, deepcopy=False):
        yield Stored(trial._trial_id, trial.number, trial.state, trial.user_attrs)


class _JournalFile(JournalFileBackend):
    """Optuna's journal file; an append that fails leaves nothing behind, as on a full disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self._path = path
        self.lines_read = 0

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        for log in super().read_logs(log_number_from):
            self.lines_read += 1
            yield log

    def append_logs(self, logs: Iterable[dict[str, Any]]) -> None:
        try:
            size = self._path.stat().st_size
            super().append_logs(list(logs))
        except OSError as error:
            with suppress(OSError):
                os.truncate(self._path, size)
            raise LedgerLost(f"cannot write the ledger {self._path}: {error.strerror}") from error


def _open_journal(path: Path) -> BaseStorage:
    try:
        file = _JournalFile(path)
        return JournalStorage(file)
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
