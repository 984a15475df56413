"""A ledger on a PostgreSQL server: connections that hold the study, and patience while the server is away.

A driver's connection takes the study's advisory lock before anything is written over it, so whoever writes
holds the study, also after a restart of the server, which lets go of all locks.
"""

import datetime
import hashlib
import importlib
import os
import secrets
import socket
import time
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, TypeVar

from study.ledger_location import (
    LedgerBusy,
    LedgerError,
    LedgerLocation,
    LedgerLost,
    first_line,
    refuse,
)

if TYPE_CHECKING:
    import psycopg

PATIENCE_S: Final = 30.0
_PAUSE_S: Final = 0.5
# A peer that does not answer is given up after about 15 s, here and, for a driver's lock, on the server.
_OPTIONS: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
    "options": "-c tcp_keepalives_idle=5 -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3 "
    "-c tcp_user_timeout=15000",
}
_T = TypeVar("_T")


class ConnectionCut(Exception):
    """The server did not answer, or no longer; what was under way may or may not have been done."""


def connect(location: LedgerLocation, name: str = "study reader") -> "psycopg.Connection[Any]":
    """Connect to a ledger's server; `name` is what the server lists the connection under.

    Raises LedgerError without the package, ConnectionCut if there is no connection.
    """
    driver = _import_psycopg()
    try:
        connection: psycopg.Connection[Any]
        connection = driver.connect(location.url, application_name=name, **_OPTIONS)
        return connection
    except driver.OperationalError as error:
        raise ConnectionCut(first_line(error)) from error
    except driver.Error as error:
        refuse(location, error)


def _import_psycopg() -> ModuleType:
    try:
        return importlib.import_module("psycopg")
    except ImportError as error:
        raise LedgerError(
            f"a ledger on PostgreSQL needs the package psycopg ({error}); install it with "
            "pip install 'ftcl-study[postgres]'"
        ) from error


def patiently(
    call: Callable[[], _T],
    location: LedgerLocation,
    say: Callable[[str], None],
    settled: Callable[[], _T | None] = lambda: None,
) -> _T:
    """Call until the server answers, for up to PATIENCE_S.

    `settled` looks, before a call is repeated, whether the one that was cut had been done after all.
    Raises LedgerLost.
    """
    until_s: float | None = None
    while True:
        try:
            result = None if until_s is None else settled()
            if result is None:
                result = call()
        except ConnectionCut as cut:
            if until_s is None:
                until_s = time.monotonic() + PATIENCE_S
                say(f"the ledger {location} does not answer ({cut}); trying again for {PATIENCE_S:.0f} s")
            elif time.monotonic() > until_s:
                raise LedgerLost(
                    f"the ledger {location} has not answered for {PATIENCE_S:.0f} s ({cut}); what it had "
                    "confirmed is kept: when the server is back, the same command continues"
                ) from cut
            time.sleep(_PAUSE_S)
        else:
            if until_s is not None:
                say(f"the ledger {location} answers again")
            return result


class ServerLock:
    """The advisory lock of a study, held by the connections that it makes: one at a time."""

    def __init__(self, location: LedgerLocation, study_id: str) -> None:
        self._location = location
        digest = hashlib.sha256(f"study/{study_id}".encode()).digest()
        self._key = int.from_bytes(digest[:8], "big", signed=True)
        since = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        # Tells its own connections from those of others; the server keeps 63 bytes.
        self._name = f"{since} {os.getpid()} {secrets.token_hex(3)} {socket.gethostname()}"[:63]
        self._current = self._lock()
        self._is_taken = False

    def connect(self) -> "psycopg.Connection[Any]":
        """Return a connection that holds the study.

        Raises ConnectionCut, LedgerLost.
        """
        if self._is_taken or not self._is_alive():
            self._current.close()
            self._current = self._take_again()
        self._is_taken = True
        return self._current

    def check(self) -> None:
        """Make sure that the study is held.

        Raises ConnectionCut, LedgerLost.
        """
        if not self._is_alive():
            self._current.close()
            self._current = self._take_again()
            self._is_taken = False

    def close(self) -> None:
        """Let the study go."""
        self._current.close()

    def _is_alive(self) -> bool:
        driver = _import_psycopg()
        try:
            self._current.execute("SELECT 1")
            self._current.rollback()
        except driver.Error:
            return False
        return True

    def _take_again(self) -> "psycopg.Connection[Any]":
        try:
            return self._lock()
        except LedgerBusy as busy:
            raise LedgerLost(
                f"while the ledger's server was away, another driver took over: {busy}"
            ) from busy

    def _lock(self) -> "psycopg.Connection[Any]":
        driver = _import_psycopg()
        connection = connect(self._location, self._name)
        try:
            if not self._try_lock(connection):
                raise LedgerBusy(
                    f"{self._holder(connection)} runs the study in the ledger {self._location}; wait for it, "
                    "or choose another --out"
                )
        except driver.OperationalError as error:
            connection.close()
            raise ConnectionCut(first_line(error)) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _try_lock(self, connection: "psycopg.Connection[Any]") -> bool:
        for _ in range(10):
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", [self._key]).fetchone()
            connection.commit()
            if row == (True,):
                return True
            own = [pid for pid, name, _ in self._holders(connection) if name == self._name]
            if not own:
                return False
            # A connection of this very process that the network has cut, and the server not yet missed.
            connection.execute("SELECT pg_terminate_backend(%s)", own)
            connection.commit()
            time.sleep(0.2)
        return False

    def _holders(self, connection: "psycopg.Connection[Any]") -> list[tuple[int, str | None, str | None]]:
        query = (
            "SELECT pid, application_name, host(client_addr) FROM pg_locks JOIN pg_stat_activity USING (pid) "
            "WHERE locktype = 'advisory' AND granted AND objsubid = 1 AND datname = current_database() "
            "AND (classid::bigint << 32) | objid::bigint = %s"
        )
        rows = connection.execute(query, [self._key]).fetchall()
        connection.commit()
        return rows

    def _holder(self, connection: "psycopg.Connection[Any]") -> str:
        for pid, name, address in self._holders(connection):
            parts = (name or "").split(" ")
            if len(parts) == 4:
                return f"process {parts[1]} on {parts[3]}, since {parts[0]},"
            return f"a driver at {address or 'an unknown address'} (session {pid} of the server)"
        return "another process"
