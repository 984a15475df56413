"""A ledger on a real PostgreSQL server: the contract of all storages, and what only a server can do."""

import contextlib
import itertools
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy
from optuna import load_study

from study.ledger import Ledger
from study.ledger_storage import (
    LedgerBusy,
    LedgerError,
    LedgerLocation,
    LedgerLost,
    hold,
    open_storage,
    open_study,
)
from study.store import open_store
from tests.contracts.ledger import CELL, LedgerContract, driver, opened, read
from tests.system.postgres import USER, Server

REFUSED = "the study is refused within seconds, with the reason and the fix and without a password"
RESTARTED = "writes wait for it up to 30 s, and say so; nothing is lost and nothing written twice"


@pytest.fixture
def location(postgres: Server, tmp_path: Path) -> LedgerLocation:
    return LedgerLocation.parse(postgres.url(), open_store(tmp_path))


@pytest.fixture
def study_id(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def running(postgres: Server) -> Iterator[Server]:
    """The server; it runs again when the test has ended, whatever that did to it."""
    yield postgres
    postgres.ensure_started()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.ledger_server.PATIENCE_S", 2.0)


def cut_commit(storage: Any, server: Server, write: int, lost: str) -> list[str]:
    """Cut the connection before or after a commit, from 0 among those that write; return what is written."""
    engine = storage._engine
    commit = type(engine.dialect).do_commit
    statements: list[str] = []
    commits: list[str] = []

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(("INSERT", "UPDATE")):
            statements.append(statement)

    def do_commit(pooled: Any) -> None:
        connection = pooled.dbapi_connection
        is_chosen = bool(statements) and len(commits) == write
        commits.extend(statements[-1:])
        statements.clear()
        if is_chosen and lost == "before":
            end_session(server, connection.info.backend_pid)
        commit(engine.dialect, pooled)
        if is_chosen and lost == "after":
            end_session(server, connection.info.backend_pid)
            connection.execute("SELECT 1")

    engine.dialect.do_commit = do_commit
    return commits


def end_session(server: Server, pid: int) -> None:
    with psycopg.connect(server.url(), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])


@contextlib.contextmanager
def stranded(held: Any) -> Iterator[None]:
    """Break a driver's connection so that the server does not notice, as a network does that falls apart."""
    descriptor = held._lock._current.fileno()
    kept = os.dup(descriptor)
    ours, theirs = socket.socketpair()
    theirs.close()
    os.dup2(ours.fileno(), descriptor)
    try:
        yield
    finally:
        os.close(kept)
        ours.close()


class TestPostgres(LedgerContract):
    @pytest.fixture
    def location(self, postgres: Server, tmp_path: Path) -> LedgerLocation:
        return LedgerLocation.parse(postgres.url(), open_store(tmp_path))


class TestUnusable:
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            pytest.param(
                lambda server: server.url(password="wr0ng"),
                r"password authentication failed.*; correct the password: in PGPASSWORD, ~/\.pgpass or",
                marks=pytest.mark.situation("environment", "the ledger's password is wrong", REFUSED),
                id="password",
            ),
            pytest.param(
                lambda server: server.url().replace(f":{server.password}", ""),
                "no password supplied; give the password",
                id="no password",
            ),
            pytest.param(
                lambda server: server.url("none"),
                r'database "none" does not exist; create it \(createdb\)',
                marks=pytest.mark.situation("environment", "the ledger's database does not exist", REFUSED),
                id="database",
            ),
            pytest.param(
                lambda server: server.url().replace(str(server.port), "1"),
                "refused; start the server, or correct host and port in the URL",
                marks=pytest.mark.situation("environment", "no server runs where the ledger lies", REFUSED),
                id="port",
            ),
            pytest.param(
                lambda server: server.url().replace("127.0.0.1", "no-host.invalid"),
                "; correct the host in the URL",
                marks=pytest.mark.situation("environment", "the ledger's host is not known", REFUSED),
                id="host",
            ),
            pytest.param(
                lambda server: server.url() + "?sslmode=maybe",
                "sslmode.*; correct the URL",
                id="option",
            ),
        ],
    )
    def test_unusable_server_is_refused(
        self, postgres: Server, tmp_path: Path, url: Callable[[Server], str], message: str
    ) -> None:
        location = LedgerLocation.parse(url(postgres), open_store(tmp_path))
        began_s = time.monotonic()
        with pytest.raises(LedgerError, match=message) as caught:
            read(location, "a study")
        assert time.monotonic() - began_s < 10
        assert "wr0ng" not in str(caught.value)
        assert postgres.password not in str(caught.value)

    @pytest.mark.situation(
        "environment", "the ledger's server accepts a connection and never answers", REFUSED
    )
    def test_silent_server_is_refused(self, tmp_path: Path) -> None:
        silent = socket.create_server(("127.0.0.1", 0))
        url = f"postgresql://me@127.0.0.1:{silent.getsockname()[1]}/db"
        location = LedgerLocation.parse(url, open_store(tmp_path))
        began_s = time.monotonic()
        with silent, pytest.raises(LedgerError, match="timeout expired; look whether the server runs"):
            read(location, "a study")
        assert time.monotonic() - began_s < 10

    @pytest.mark.situation("environment", "the ledger's user may not create tables", REFUSED)
    def test_user_without_rights_is_refused(self, postgres: Server, tmp_path: Path) -> None:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest'")
            connection.execute("CREATE DATABASE closed")
        url = postgres.url("closed", password="guest").replace(USER, "guest")
        with pytest.raises(LedgerError, match=r"permission denied.*; let its user create tables there"):
            read(LedgerLocation.parse(url, open_store(tmp_path)), "a study")

    @pytest.mark.situation("environment", "the package psycopg is not installed", REFUSED)
    def test_missing_package_is_named(
        self, location: LedgerLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(LedgerError, match=r"pip install 'ftcl-study\[postgres\]'"):
            read(location, "a study")


class TestRestart:
    @pytest.mark.situation("storage", "the PostgreSQL server is restarted while a study runs", RESTARTED)
    def test_nothing_is_lost_or_doubled(
        self, running: Server, location: LedgerLocation, study_id: str
    ) -> None:
        said: list[str] = []
        ended = threading.Event()

        def restart() -> None:
            for mode in ("fast", "immediate", "fast"):
                time.sleep(1.0)
                running.stop(mode)
                time.sleep(0.5)
                running.start()
            ended.set()

        with hold(location, study_id, said.append) as held:
            ledger = Ledger(open_storage(location, held), study_id)
            threading.Thread(target=restart).start()
            while not ended.is_set():
                trial = ledger.start(CELL, {}).trial
                for epoch in (1, 2):
                    ledger.record_epoch(trial, epoch, {"loss/total": trial + epoch / 10}, "a")
                ledger.set_waiting(trial)
                ledger.begin_attempt(trial)
                ledger.end(trial, "complete", value=1.0)
                held.check()
        assert len(ledger.rows) > 20
        assert repr(read(location, study_id)) == repr(ledger.rows)
        assert list(ledger.rows) == list(range(len(ledger.rows)))
        away = sum("does not answer" in line for line in said)
        assert 3 <= away == sum(line.endswith("answers again") for line in said)

    @pytest.mark.situation("storage", "the network cuts the connection to the ledger in a commit", RESTARTED)
    @pytest.mark.parametrize("lost", ["before", "after"])
    @pytest.mark.parametrize(
        ("step", "write"),
        [
            ("start", 0),
            ("epoch", 0),
            ("epoch", 1),
            ("waiting", 0),
            ("attempt", 0),
            ("attempt", 1),
            ("end", 0),
            ("end", 1),
            ("supersede", 0),
        ],
    )
    def test_write_whose_commit_is_cut_is_done_once(
        self, postgres: Server, location: LedgerLocation, study_id: str, step: str, write: int, lost: str
    ) -> None:
        """The connection ends just before, or just after, the server has committed a write."""
        steps: dict[str, Callable[[Ledger], Any]] = {
            "start": lambda ledger: ledger.start(CELL, {"finetune.epochs": 2}),
            "epoch": lambda ledger: ledger.record_epoch(0, 1, {"loss/total": 1.0}, "a"),
            "waiting": lambda ledger: ledger.set_waiting(0),
            "attempt": lambda ledger: ledger.begin_attempt(1),
            "end": lambda ledger: ledger.end(0, "complete", value=2.0),
            "supersede": lambda ledger: ledger.supersede(0, "a reason"),
        }
        with hold(location, study_id) as held:
            storage = open_storage(location, held)
            ledger = Ledger(storage, study_id)
            for _ in range(2):
                ledger.start(CELL, {})
            ledger.set_waiting(1)
            commits = cut_commit(storage, postgres, write, lost)
            steps[step](ledger)
            assert len(commits) > write
        rows = read(location, study_id)
        assert repr(rows) == repr(ledger.rows)
        assert len(rows) == (3 if step == "start" else 2)

    def test_proposal_whose_commit_is_cut_is_asked_once(
        self, postgres: Server, location: LedgerLocation, study_id: str
    ) -> None:
        with hold(location, study_id) as held:
            storage = open_storage(location, held)
            study = open_study(storage, f"{study_id}/proposals")
            for write, lost in itertools.product(range(3), ("before", "after")):
                commits = cut_commit(storage, postgres, write, lost)
                trial = study.ask()
                trial.suggest_float("x", 0.0, 1.0)
                study.tell(trial, 1.0)
                assert len(commits) > write
        trials = load_study(study_name=f"{study_id}/proposals", storage=open_storage(location)).trials
        assert [(trial.number, trial.state.name) for trial in trials] == [(n, "COMPLETE") for n in range(6)]

    @pytest.mark.situation(
        "storage",
        "the PostgreSQL server stays away for longer than 30 s",
        "the study stops; what was confirmed is kept, and the same command continues",
    )
    def test_server_that_stays_away_ends_the_study(
        self, running: Server, location: LedgerLocation, study_id: str, impatient: None
    ) -> None:
        with hold(location, study_id) as held:
            ledger = Ledger(open_storage(location, held), study_id)
            ledger.start(CELL, {})
            running.stop()
            for write in (lambda: ledger.record_epoch(0, 1, {"loss/total": 1.0}, "a"), held.check):
                with pytest.raises(LedgerLost, match=r"has not answered for 2 s .* same command continues"):
                    write()
            running.start()
            ledger.record_epoch(0, 1, {"loss/total": 2.0}, "a")
        assert read(location, study_id)[0].epochs == {1: {"loss/total": 2.0}}

    @pytest.mark.situation(
        "storage",
        "another driver takes a study over while the server restarts",
        "the first driver writes nothing more and ends, naming the other",
    )
    def test_study_that_was_taken_over_is_left_alone(
        self, running: Server, location: LedgerLocation, study_id: str, impatient: None
    ) -> None:
        with hold(location, study_id) as held:
            ledger = Ledger(open_storage(location, held), study_id)
            ledger.start(CELL, {})
            running.stop()
            running.start()
            with driver(location, study_id) as other:
                assert other.stdout is not None
                other.stdout.readline()
                message = f"another driver took over: process {other.pid} on "
                with pytest.raises(LedgerLost, match=message):
                    ledger.record_epoch(0, 1, {"loss/total": -1.0}, "a")
                with pytest.raises(LedgerLost, match=message):
                    held.check()
        epochs = read(location, study_id)[0].epochs
        assert all(metrics == {"loss/total": 1.0} for metrics in epochs.values())

    def test_own_dead_session_is_no_other_driver(self, location: LedgerLocation, study_id: str) -> None:
        """A connection that the network has cut here lives on at the server for a while."""
        with hold(location, study_id) as held:
            ledger = Ledger(open_storage(location, held), study_id)
            with stranded(held):
                ledger.start(CELL, {})
                held.check()
                ledger.start(CELL, {})
        assert len(read(location, study_id)) == 2


class TestLock:
    def test_drivers_of_new_databases_make_the_tables_once(self, postgres: Server, tmp_path: Path) -> None:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE crowded")
        location = LedgerLocation.parse(postgres.url("crowded"), open_store(tmp_path))
        failed: list[BaseException] = []

        def start(name: str) -> None:
            try:
                with opened(location, name) as ledger:
                    ledger.start(CELL, {})
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=start, args=[f"study {index}"]) for index in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert [len(read(location, f"study {index}")) for index in range(3)] == [1, 1, 1]

    def test_databases_of_a_server_are_apart(self, postgres: Server, tmp_path: Path, study_id: str) -> None:
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE apart")
        places = [
            LedgerLocation.parse(postgres.url(name), open_store(tmp_path)) for name in ("postgres", "apart")
        ]
        with hold(places[0], study_id), hold(places[1], study_id):
            for place in places:
                with pytest.raises(LedgerBusy), hold(place, study_id):
                    pass

    def test_holder_is_named_to_the_server(self, location: LedgerLocation, study_id: str) -> None:
        query = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE '20%'"
        with hold(location, study_id), psycopg.connect(location.url) as connection:
            (name,) = connection.execute(query).fetchone() or ("",)
        assert re.fullmatch(r"20\S+ \d+ \w{6} \S+", name)
