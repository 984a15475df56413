"""Places of a ledger, and what happens where a file, a lock or a disk is not as it should be."""

import contextlib
import errno
import fcntl
import os
import re
import resource
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.ledger import Ledger
from study.ledger_storage import LedgerBusy, LedgerError, LedgerLocation, LedgerLost, hold, open_storage
from study.store import open_store
from tests.contracts.ledger import CELL, opened, read

STUDY = "a study"
REFUSED = "the study is refused before a trial starts, with the reason and the fix"


@pytest.fixture
def journal(tmp_path: Path) -> LedgerLocation:
    return LedgerLocation.parse(None, open_store(tmp_path))


@pytest.fixture
def sqlite(tmp_path: Path) -> LedgerLocation:
    return LedgerLocation.parse(f"sqlite:///{tmp_path}/ledgers.db", open_store(tmp_path))


@pytest.fixture(params=["journal", "sqlite"])
def file(request: pytest.FixtureRequest) -> LedgerLocation:
    location: LedgerLocation = request.getfixturevalue(request.param)
    return location


def path_of(location: LedgerLocation) -> Path:
    assert location.path is not None
    return location.path


def fill(location: LedgerLocation, epochs: int = 3) -> None:
    with opened(location, STUDY) as ledger:
        ledger.start(CELL, {"finetune.lambda_fsd": 0.5})
        for epoch in range(1, epochs + 1):
            ledger.record_epoch(0, epoch, {"loss/total": 1.0}, "a")


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def elsewhere(file: LedgerLocation) -> Iterator[LedgerLocation]:
    """A ledger in a folder that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield LedgerLocation(file.kind, file.shown, Path(name) / path_of(file).name)
        Path(name).chmod(0o755)


@contextlib.contextmanager
def few_rights() -> Iterator[None]:
    """Be somebody to whom permissions apply."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


class TestLocation:
    def test_default_is_a_journal_in_out(self, tmp_path: Path) -> None:
        location = LedgerLocation.parse(None, open_store(tmp_path))
        assert (location.kind, location.path) == ("journal", tmp_path / "ledger.journal")
        assert LedgerLocation.parse(location.shown, open_store(tmp_path)) == location

    @pytest.mark.parametrize(
        "text", ["sqlite:////data/team.db", "sqlite:///team.db", "sqlite:////data/a%20b.db"]
    )
    def test_sqlite_is_a_file(self, tmp_path: Path, text: str) -> None:
        location = LedgerLocation.parse(text, open_store(tmp_path))
        assert location.kind == "sqlite"
        assert path_of(location).is_absolute()
        assert LedgerLocation.parse(location.shown, open_store(tmp_path)) == location

    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("postgresql://me@host/db", "postgresql://me@host/db"),
            ("postgres://me:secret@host:5433/db", "postgresql://me@host:5433/db"),
            ("postgresql://me:se%40cret@host/db?sslmode=require", "postgresql://me@host/db?sslmode=require"),
            (
                "postgresql://host/db?user=me&password=secret&sslmode=require",
                "postgresql://host/db?user=me&sslmode=require",
            ),
            ("postgresql://host/db?password=secret", "postgresql://host/db"),
        ],
    )
    def test_server_is_shown_without_its_password(self, tmp_path: Path, text: str, shown: str) -> None:
        location = LedgerLocation.parse(text, open_store(tmp_path))
        assert (location.kind, location.shown, str(location)) == ("postgresql", shown, shown)
        assert "cret" not in repr(location)
        assert "cret" in location.url or "secret" not in text

    @pytest.mark.parametrize(
        "text",
        [
            pytest.param(
                "mysql://me:secret@host/db",
                marks=pytest.mark.situation("input", "--ledger names a database that is not known", REFUSED),
            ),
            "ledger.db",
            "sqlite://",
            "sqlite:///",
            "sqlite:///:memory:",
            pytest.param(
                "postgresql://me:secret@host",
                marks=pytest.mark.situation(
                    "input", "--ledger names a PostgreSQL server and no database", REFUSED
                ),
            ),
            "postgresql://me:secret@host:port/db",
        ],
    )
    def test_other_places_are_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(LedgerError, match=r"--ledger .*") as caught:
            LedgerLocation.parse(text, open_store(tmp_path))
        assert "secret" not in str(caught.value)

    @pytest.mark.situation("input", "OUT is on object storage and --ledger is not given", REFUSED)
    def test_object_storage_needs_a_place_for_the_ledger(self) -> None:
        store = open_store("memory://study")
        with pytest.raises(LedgerError, match=r"memory://study is object storage.*--ledger sqlite:"):
            LedgerLocation.parse(None, store)
        assert LedgerLocation.parse("sqlite:////data/team.db", store).kind == "sqlite"


class TestJournal:
    @pytest.mark.situation(
        "kill",
        "the driver is killed in the middle of an append to the ledger",
        "the unfinished line is cut off at the next opening, which says so; nothing confirmed is lost",
    )
    @pytest.mark.parametrize(
        "torn", [b'{"op_code": 4, "wor', b"\xff", b"{", b"\0" * 5000, b'{"op_code": 4,\n', b"\0\0\n", b"7\n"]
    )
    def test_torn_last_line_is_cut(self, journal: LedgerLocation, torn: bytes) -> None:
        fill(journal)
        whole = path_of(journal).read_bytes()
        path_of(journal).write_bytes(whole + torn)
        with hold(journal, STUDY) as held:
            assert len(held.notes) == 1
            assert f"cut {len(torn)} bytes" in held.notes[0]
            assert path_of(journal).read_bytes() == whole
        with opened(journal, STUDY) as ledger:
            ledger.record_epoch(0, 4, {"loss/total": 1.0}, "a")
        assert list(read(journal, STUDY)[0].epochs) == [1, 2, 3, 4]

    def test_torn_long_line_is_cut(self, journal: LedgerLocation) -> None:
        fill(journal)
        whole = path_of(journal).read_bytes()
        path_of(journal).write_bytes(whole + b'{"op_code": "' + b"x" * 200_000)
        assert len(read(journal, STUDY)[0].epochs) == 3
        assert path_of(journal).read_bytes() == whole

    def test_every_prefix_of_the_journal_opens(self, journal: LedgerLocation) -> None:
        """A crash can leave the journal cut at any byte."""
        fill(journal)
        whole = path_of(journal).read_bytes()
        for cut in range(0, len(whole), 7):
            path_of(journal).write_bytes(whole[:cut])
            rows = read(journal, STUDY)
            assert [row.status for row in rows.values()] in ([], ["running"])

    @pytest.mark.situation(
        "storage",
        "a line in the middle of the ledger's journal is damaged",
        "the study is refused with the line's number and the command that cuts the journal before it; "
        "what that forgets is done again from the checkpoints",
    )
    @pytest.mark.parametrize("damage", [b"\0" * 40, b"garbage", b'{"op_code": 8}', b'{"op_code": 77}', b"[]"])
    def test_damaged_line_is_named_with_a_command_that_helps(
        self, journal: LedgerLocation, damage: bytes
    ) -> None:
        fill(journal)
        lines = path_of(journal).read_bytes().splitlines(keepends=True)
        path_of(journal).write_bytes(b"".join([*lines[:-2], damage + b"\n", lines[-1]]))
        with pytest.raises(LedgerError, match=f"line {len(lines) - 1} of the ledger") as caught:
            read(journal, STUDY)
        command = re.search(r"\((sed .*?)\):", str(caught.value))
        assert command is not None
        subprocess.run(command[1], shell=True, check=True)
        assert list(read(journal, STUDY)[0].epochs) == [1]

    @pytest.mark.situation(
        "input",
        "the file ledger.journal is something else",
        "the study is refused before a trial starts; the file stays as it is",
    )
    def test_other_file_is_refused_and_kept(self, journal: LedgerLocation) -> None:
        path_of(journal).write_text("one\ntwo\nthree")
        with pytest.raises(LedgerError, match="is not a ledger; move it away"):
            read(journal, STUDY)
        assert path_of(journal).read_text() == "one\ntwo\nthree"

    @pytest.mark.situation(
        "kill",
        "the driver is killed while it holds Optuna's lock on the journal",
        "the next launch removes the lock, says so and goes on at once, instead of waiting 30 s",
    )
    def test_stale_lock_is_removed(self, journal: LedgerLocation) -> None:
        fill(journal)
        lock = Path(f"{path_of(journal)}.lock")
        lock.symlink_to(path_of(journal))
        began_s = time.monotonic()
        with hold(journal, STUDY) as held:
            assert held.notes == [f"removed {lock}, which a driver left that was killed while it wrote"]
        with opened(journal, STUDY) as ledger:
            ledger.start(CELL, {})
        assert time.monotonic() - began_s < 10
        assert not lock.is_symlink()

    def test_block_waits_for_the_disk_once(
        self, journal: LedgerLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        flushed: list[int] = []
        with opened(journal, STUDY) as ledger:
            ledger.start(CELL, {})
            before = path_of(journal).read_bytes()
            monkeypatch.setattr(os, "fsync", flushed.append)
            with ledger.together():
                for epoch in range(1, 5):
                    ledger.record_epoch(0, epoch, {"loss/total": 1.0}, "a")
                assert path_of(journal).read_bytes() == before
            assert len(flushed) == 1
            with ledger.together():
                pass
            assert len(flushed) == 1
            monkeypatch.undo()
        assert list(read(journal, STUDY)[0].epochs) == [1, 2, 3, 4]

    @pytest.mark.situation(
        "kill",
        "the driver is killed while writes that it has gathered reach the journal",
        "the first of them are on record, or none; the same command continues from there",
    )
    def test_block_that_is_cut_anywhere_leaves_its_first_writes(self, journal: LedgerLocation) -> None:
        with opened(journal, STUDY) as ledger:
            ledger.start(CELL, {})
            begin = path_of(journal).stat().st_size
            with ledger.together():
                for epoch in range(1, 5):
                    ledger.record_epoch(0, epoch, {"loss/total": 1.0}, "a")
                ledger.end(0, "complete", value=1.0)
        whole = path_of(journal).read_bytes()
        known = 0
        for size in range(begin, len(whole), 7):
            path_of(journal).write_bytes(whole[:size])
            row = read(journal, STUDY)[0]
            assert list(row.epochs) == list(range(1, len(row.epochs) + 1))
            assert row.status == "running"
            assert len(row.epochs) >= known
            known = len(row.epochs)
        assert known == 4

    @pytest.mark.situation(
        "storage",
        "the disk of the journal is full where gathered writes are to reach it, and has room again",
        "what was gathered is written with what comes next",
    )
    def test_block_that_finds_the_disk_full_is_written_later(self, journal: LedgerLocation) -> None:
        with opened(journal, STUDY) as ledger:
            ledger.start(CELL, {})
            before = path_of(journal).read_bytes()
            with (
                largest_file(len(before) + 100),
                pytest.raises(LedgerLost, match="cannot write"),
                ledger.together(),
            ):
                for epoch in range(1, 5):
                    ledger.record_epoch(0, epoch, {"loss/total": 1.0}, "a")
            assert path_of(journal).read_bytes() == before
            ledger.record_epoch(0, 5, {"loss/total": 1.0}, "a")
            ledger.record_epoch(0, 6, {"loss/total": 1.0}, "a")
            assert list(ledger.rows[0].epochs) == [1, 2, 3, 4, 5, 6]
        assert repr(read(journal, STUDY)) == repr(ledger.rows)

    def test_block_whose_writing_is_interrupted_is_written_by_an_orderly_end(
        self, journal: LedgerLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(_: int) -> None:
            raise KeyboardInterrupt

        with opened(journal, STUDY) as ledger:
            ledger.start(CELL, {})
            with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), ledger.together():
                patched.setattr(os, "fsync", interrupt)
                ledger.record_epoch(0, 1, {"loss/total": 1.0}, "a")
            ledger.set_waiting(0)
        assert read(journal, STUDY)[0].status == "waiting"
        assert repr(read(journal, STUDY)) == repr(ledger.rows)

    def test_block_is_not_written_after_what_another_process_wrote(self, journal: LedgerLocation) -> None:
        with opened(journal, STUDY) as ledger:
            ledger.start(CELL, {})
            other = Ledger(open_storage(journal), STUDY)
            with pytest.raises(LedgerLost, match="another process"), ledger.together():
                ledger.record_epoch(0, 1, {"loss/total": 1.0}, "a")
                other.record_epoch(0, 2, {"loss/total": 1.0}, "a")
        assert list(read(journal, STUDY)[0].epochs) == [2]

    def test_nothing_but_the_journal_is_left_behind(self, journal: LedgerLocation) -> None:
        fill(journal)
        assert os.listdir(path_of(journal).parent) == ["ledger.journal"]


class TestSqlite:
    @pytest.mark.situation("input", "the file of an SQLite ledger is something else", REFUSED)
    def test_other_file_is_refused(self, sqlite: LedgerLocation) -> None:
        path_of(sqlite).write_text("not a database, and long enough to have a header of one\n" * 40)
        with pytest.raises(LedgerError, match="not a database; correct the path"):
            read(sqlite, STUDY)

    @pytest.mark.situation(
        "storage",
        "pages of an SQLite ledger are damaged",
        "the study is refused, and told how to save the rest",
    )
    def test_damaged_database_is_refused(self, sqlite: LedgerLocation) -> None:
        fill(sqlite, epochs=50)
        with path_of(sqlite).open("rb+") as file:
            file.seek(4096)
            file.write(os.urandom(8 * 4096))
        with pytest.raises(LedgerError, match=r"the ledger sqlite:.*; restore the file from a copy"):
            read(sqlite, STUDY)

    @pytest.mark.situation("input", "the folder of an SQLite ledger does not exist", REFUSED)
    def test_missing_folder_is_refused(self, tmp_path: Path) -> None:
        location = LedgerLocation.parse(f"sqlite:///{tmp_path}/none/ledgers.db", open_store(tmp_path))
        with pytest.raises(LedgerError, match=r"No such file or directory.*none"):
            read(location, STUDY)

    @pytest.mark.situation(
        "storage",
        "another program locks the SQLite ledger for longer than 10 s",
        "the study stops; what was confirmed is kept, and the same command continues",
    )
    def test_locked_database(self, sqlite: LedgerLocation, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("study.ledger_database._BUSY_S", 0.2)
        fill(sqlite)
        with opened(sqlite, STUDY) as ledger, contextlib.closing(sqlite3.connect(path_of(sqlite))) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(LedgerLost, match=r"database is locked.*the same command continues"):
                ledger.record_epoch(0, 4, {"loss/total": 1.0}, "a")
            with pytest.raises(LedgerError, match="database is locked; end what works on it"):
                open_storage(sqlite)
            other.rollback()
            assert list(ledger.rows[0].epochs) == [1, 2, 3]
            ledger.record_epoch(0, 4, {"loss/total": 2.0}, "a")
        assert read(sqlite, STUDY)[0].epochs[4] == {"loss/total": 2.0}

    def test_what_is_confirmed_is_on_the_disk(self, sqlite: LedgerLocation) -> None:
        """Only the database itself: no write-ahead log that would have to be copied with it."""
        with opened(sqlite, STUDY) as ledger:
            ledger.start(CELL, {})
            assert sorted(os.listdir(path_of(sqlite).parent))[1:] == ["ledgers.db"]


class TestFiles:
    @pytest.mark.situation(
        "storage",
        "the disk of the ledger is full",
        "the study stops; no half-written change stays, and the same command continues",
    )
    def test_full_disk_leaves_no_half_write(self, file: LedgerLocation) -> None:
        fill(file)
        with opened(file, STUDY) as ledger:
            with largest_file(path_of(file).stat().st_size + 10), pytest.raises(LedgerLost) as caught:
                for epoch in range(4, 200):
                    ledger.record_epoch(0, epoch, {"x" * 1000: 1.0}, "a")
            assert str(path_of(file)) in str(caught.value)
            known = dict(ledger.rows[0].epochs)
            ledger.set_waiting(0)
        row = read(file, STUDY)[0]
        assert (row.status, row.epochs) == ("waiting", known)

    @pytest.mark.situation("environment", "the ledger may be read and not written", REFUSED)
    def test_read_only_file_is_refused(self, elsewhere: LedgerLocation) -> None:
        fill(elsewhere)
        path_of(elsewhere).chmod(0o444)
        path_of(elsewhere).parent.chmod(0o777)
        with few_rights(), pytest.raises(LedgerError, match="give yourself the right to"):
            read(elsewhere, STUDY)

    @pytest.mark.situation("environment", "the folder of the ledger may not be written", REFUSED)
    def test_read_only_folder_is_refused(self, elsewhere: LedgerLocation) -> None:
        path_of(elsewhere).parent.chmod(0o555)
        message = r"cannot write beside the ledger .* \(Permission denied"
        with few_rights(), pytest.raises(LedgerError, match=message):
            read(elsewhere, STUDY)

    @pytest.mark.situation("environment", "the file system of the ledger cannot lock files", REFUSED)
    def test_file_system_without_locks_is_refused(
        self, file: LedgerLocation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(LedgerError, match=r"cannot lock files .* --ledger"):
            read(file, STUDY)

    def test_removed_lock_is_noticed(self, file: LedgerLocation) -> None:
        with hold(file, STUDY) as held:
            lock = next(path_of(file).parent.glob(".*.driver"))
            lock.unlink()
            with pytest.raises(LedgerLost, match="was removed or replaced"):
                held.check()
            lock.touch()
            with pytest.raises(LedgerLost, match="was removed or replaced"):
                held.check()
        assert lock.exists()  # it is another driver's now

    def test_study_is_held_on_a_full_disk(self, file: LedgerLocation) -> None:
        fill(file)
        with largest_file(0), hold(file, STUDY) as held:
            held.check()
            with pytest.raises(LedgerBusy, match="another process runs the study"), hold(file, STUDY):
                pass

    def test_ledger_that_is_a_folder_is_refused(self, file: LedgerLocation) -> None:
        path_of(file).mkdir()
        with pytest.raises(LedgerError, match=re.escape(str(path_of(file)))):
            read(file, STUDY)
