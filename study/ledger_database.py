"""A ledger in a database, SQLite or PostgreSQL, behind Optuna's interface."""

import copy
import errno
import json
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, RDBStorage, get_storage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.pool import NullPool, QueuePool

from study.ledger_hold import Hold, ServerHold
from study.ledger_location import LedgerLocation, LedgerLost, first_line, refuse
from study.ledger_server import ConnectionCut, connect, patiently

_BUSY_S: Final = 10  # how long another process's transaction on an SQLite file is waited for
_RACES: Final = 3  # how often two drivers may meet while they make the tables of one database
_CHUNK: Final = 500  # trials that are read at once
_T = TypeVar("_T")

# Optuna's tables; what it offers itself to read them keeps every attribute as an object.
_TRIALS: Final = "SELECT trial_id, number, state FROM trials WHERE study_id = :study ORDER BY trial_id"
_ATTRIBUTES: Final = (
    "SELECT trial_id, key, value_json FROM trial_user_attributes JOIN trials USING (trial_id) "
    "WHERE study_id = :study AND trial_id BETWEEN :first AND :last ORDER BY trial_user_attribute_id"
)
_BY_TOKEN: Final = (
    "SELECT trial_id FROM trial_system_attributes JOIN trials USING (trial_id) "
    "WHERE study_id = :study AND key = 'token' AND value_json = :token"
)


@dataclass(frozen=True)
class Stored:
    """A trial as the storage has it."""

    id: int  # Optuna's, of all trials of a storage
    number: int  # of its study
    state: TrialState
    attributes: Mapping[str, Any]


def keep_only(path: Path, study_id: str) -> None:
    """Delete from an SQLite file what other studies have in it."""
    backend = RDBStorage(f"sqlite:///{path}")
    for study in backend.get_all_studies():
        if not study.study_name.startswith(f"{study_id}/"):
            backend.delete_study(study._study_id)
    backend.engine.dispose()


class Database(BaseStorage):
    """A database behind Optuna's interface that says in words what fails, and outlives a restart.

    A write that a lost connection cut may or may not have been done: before it is repeated, the database is
    asked, unless doing it twice is the same as once.
    """

    def __init__(self, location: LedgerLocation, backend: RDBStorage, say: Callable[[str], None]) -> None:
        self._location = location
        self._engine = backend.engine
        self._say = say
        # Optuna's cache; without it every proposal would read all proposals several times.
        self._backend = get_storage(backend)
        self._cached: set[int] = set()  # studies that are read through it

    def _do(self, call: Callable[[], _T], settled: Callable[[], _T | None] = lambda: None) -> _T:
        try:
            return patiently(call, self._location, self._say, settled)
        except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
            words = _words(error)
            # SQLite's, of a disk of this machine; a full disk of a server is not the study's.
            is_full = words == "database or disk is full"
            raise LedgerLost(
                f"the ledger {self._location} takes no more writes: {words}; what it had confirmed is kept: "
                "once that is mended, the same command continues"
            ) from (OSError(errno.ENOSPC, words) if is_full else error)

    def read_trials(self, study: int) -> Iterator[Stored]:
        """Yield the trials of a study, a few at a time: Optuna would need a gigabyte for 10 000."""
        heads = self._do(lambda: self._rows(_TRIALS, study=study))
        for begin in range(0, len(heads), _CHUNK):
            chunk = heads[begin : begin + _CHUNK]
            read = partial(self._rows, _ATTRIBUTES, study=study, first=chunk[0][0], last=chunk[-1][0])
            attributes: dict[int, dict[str, Any]] = {trial_id: {} for trial_id, _, _ in chunk}
            for trial_id, key, value in self._do(read):
                attributes[trial_id][key] = json.loads(value)
            for trial_id, number, state in chunk:
                yield Stored(trial_id, number, TrialState[state], attributes.pop(trial_id))

    def _rows(self, query: str, **parameters: Any) -> Sequence[Any]:
        with self._engine.connect() as connection:
            return connection.execute(sqlalchemy.text(query), parameters).fetchall()

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        trial = copy.copy(template_trial) or create_trial(state=TrialState.RUNNING)
        token = uuid.uuid4().hex
        trial.system_attrs = {**trial.system_attrs, "token": token}

        def find() -> int | None:
            rows = self._rows(_BY_TOKEN, study=study_id, token=json.dumps(token))
            if rows and study_id in self._cached:
                self._backend.get_all_trials(study_id, deepcopy=False)  # so that the cache knows it, too
            return rows[0][0] if rows else None

        return self._do(lambda: self._backend.create_new_trial(study_id, trial), find)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        return self._do(
            lambda: self._backend.set_trial_state_values(trial_id, state, values),
            lambda: self._backend.get_trial(trial_id).state == state or None,
        )

    # Twice is once: these set what has a name, and the names are made by whoever calls.

    def create_new_study(self, directions: Sequence[StudyDirection], study_name: str | None = None) -> int:
        return self._do(lambda: self._backend.create_new_study(directions, study_name))

    def delete_study(self, study_id: int) -> None:
        self._do(lambda: self._backend.delete_study(study_id))

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._do(lambda: self._backend.set_study_user_attr(study_id, key, value))

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._do(lambda: self._backend.set_study_system_attr(study_id, key, value))

    def set_trial_param(
        self, trial_id: int, param_name: str, param_value_internal: float, distribution: BaseDistribution
    ) -> None:
        self._do(
            lambda: self._backend.set_trial_param(trial_id, param_name, param_value_internal, distribution)
        )

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        self._do(lambda: self._backend.set_trial_intermediate_value(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._do(lambda: self._backend.set_trial_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._do(lambda: self._backend.set_trial_system_attr(trial_id, key, value))

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._do(lambda: self._backend.get_study_id_from_name(study_name))

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._do(lambda: self._backend.get_study_name_from_id(study_id))

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._do(lambda: self._backend.get_study_directions(study_id))

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._do(lambda: self._backend.get_study_user_attrs(study_id))

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._do(lambda: self._backend.get_study_system_attrs(study_id))

    def get_all_studies(self) -> list[Any]:
        return self._do(self._backend.get_all_studies)

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        return self._do(lambda: self._backend.get_trial_id_from_study_id_trial_number(study_id, trial_number))

    def get_trial(self, trial_id: int) -> FrozenTrial:
        return self._do(lambda: self._backend.get_trial(trial_id))

    def get_all_trials(self, study_id: int, deepcopy: bool = True, states: Any = None) -> list[FrozenTrial]:
        self._cached.add(study_id)
        return self._do(lambda: self._backend.get_all_trials(study_id, deepcopy, states))


def _words(error: BaseException) -> str:
    """Return what the database itself says."""
    while error.__cause__ is not None:
        error = error.__cause__
    return first_line(error)


def open_sqlite(location: LedgerLocation, held: Hold | None) -> BaseStorage:
    """Open an SQLite file as a ledger's storage."""
    path = location.path
    assert path is not None

    def open_file() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
        # SQLite's own journal, not its write-ahead log: that one needs memory shared by all processes, which
        # network disks do not have, and files beside the database that have to be copied with it. EXTRA keeps
        # what is committed even if the power fails at once.
        connection.execute("PRAGMA synchronous = EXTRA")
        return connection

    try:
        with closing(open_file()) as connection:
            found = connection.execute("PRAGMA quick_check").fetchone()[0]
            if held is not None:
                connection.execute("BEGIN")
                connection.execute("PRAGMA user_version = 0")  # fails where nothing may be written
                connection.rollback()
    except sqlite3.Error as error:
        refuse(location, error)
    if found != "ok":
        refuse(location, f"the database is damaged: {found}")
    return Database(location, _make_tables(location, "sqlite://", open_file, open_file), lambda _: None)


def open_postgresql(location: LedgerLocation, held: Hold | None) -> BaseStorage:
    """Open a database of a PostgreSQL server as a ledger's storage."""

    def connect_freely() -> Any:
        return connect(location)

    making = held.connect if isinstance(held, ServerHold) else connect_freely
    backend = _make_tables(location, "postgresql+psycopg://", connect_freely, making)

    @sqlalchemy.event.listens_for(backend.engine, "handle_error")
    def note_cut(context: sqlalchemy.engine.ExceptionContext) -> None:
        # Optuna takes a cut connection for a deadlock, and would enter a trial again that may be there.
        if context.is_disconnect:
            raise ConnectionCut(first_line(context.original_exception))

    return Database(location, backend, held.say if held is not None else lambda _: None)


def _make_tables(
    location: LedgerLocation, url: str, connect_freely: Callable[[], Any], connect_held: Callable[[], Any]
) -> RDBStorage:
    """Return Optuna's storage over one connection; making its tables takes two."""
    try:
        for _ in range(_RACES):
            try:
                RDBStorage(url, {"creator": connect_freely, "poolclass": NullPool})
                break
            except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
                if not any(text in _words(error) for text in ("already exists", "duplicate key", "UNIQUE")):
                    raise
                time.sleep(0.2)  # another driver makes the tables of the same database
        return RDBStorage(
            url,
            {"creator": connect_held, "poolclass": QueuePool, "pool_size": 1, "max_overflow": 0},
            skip_compatibility_check=True,
            skip_table_creation=True,
        )
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError, ConnectionCut, RuntimeError) as error:
        refuse(location, _words(error))
