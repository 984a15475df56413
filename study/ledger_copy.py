"""A copy of a ledger file beside results on object storage, for when the machine that has the file is gone.

A study whose results outlive the head of a cluster should not end with the head's disk. The copy is as of
some minutes ago at most; what has run since runs again, from its checkpoints.
"""

import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Final

from ftcl.files import atomic_write
from study.ledger_database import keep_only
from study.ledger_location import LedgerError, LedgerLocation
from study.store import Store

COPY: Final = "ledger.copy.db"
_EVERY_S: Final = 600.0


def is_copied(location: LedgerLocation, store: Store) -> bool:
    """Say whether a study has a copy of its ledger: where the results do not lie on the ledger's machine."""
    return location.kind == "sqlite" and store.local is None


def save_copy(location: LedgerLocation, study_id: str, store: Store) -> None:
    """Put a copy of the ledger beside the results. Raises OSError; an old copy stays then."""
    assert location.path is not None
    with tempfile.TemporaryDirectory(prefix="ledger-copy-") as folder:
        path = Path(folder, COPY)
        with (
            closing(sqlite3.connect(f"{location.path.as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(path)) as target,
        ):
            source.backup(target)
        keep_only(path, study_id)
        with path.open("rb") as file:
            store.write_with(COPY, lambda out: shutil.copyfileobj(file, out))


def restore_copy(location: LedgerLocation, store: Store) -> str:
    """Put a ledger file that is not there back from its copy; return that in words. Raises LedgerError."""
    if not is_copied(location, store) or location.path is None:
        raise LedgerError("--resume copy is for an SQLite ledger of a study on object storage; drop it")
    if location.path.exists():
        raise LedgerError(
            f"the ledger {location} is there; drop --resume copy or, if it has no part of this study, name "
            "another place with --ledger"
        )
    if not store.exists(COPY):
        raise LedgerError(f"there is no copy of the ledger at {store.place(COPY)}; the study cannot go on")
    try:
        with store.open(COPY) as copy:
            atomic_write(location.path, lambda file: shutil.copyfileobj(copy, file))
    except OSError as error:
        raise LedgerError(f"cannot write the ledger {location} ({error}); choose another place") from error
    return (
        f"the ledger {location} was restored from {store.place(COPY)}; what has run since that copy was made "
        "runs again, from its checkpoints"
    )


class LedgerCopies:
    """Copies a ledger now and then while the block runs, and at its end; says so if that fails."""

    def __init__(
        self,
        location: LedgerLocation,
        study_id: str,
        store: Store,
        say: Callable[[str], None],
        every_s: float = _EVERY_S,
    ) -> None:
        self._location, self._study_id, self._store = location, study_id, store
        self._say, self._every_s = say, every_s
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger copies", daemon=True)

    def __enter__(self) -> "LedgerCopies":
        if is_copied(self._location, self._store):
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ends.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._ends.wait(self._every_s)
            try:
                save_copy(self._location, self._study_id, self._store)
            except (OSError, sqlite3.Error) as error:
                self._say(f"no copy of the ledger could be made: {error}")
