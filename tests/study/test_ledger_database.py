"""An SQLite file as a ledger: other files, damage, and locks."""

import contextlib
import os
import sqlite3
from pathlib import Path

import pytest

from study.ledger_storage import LedgerError, LedgerLocation, LedgerLost, open_storage
from study.store import open_store
from tests.contracts.ledger import CELL, opened, read
from tests.study.ledgers import REFUSED, STUDY, fill, path_of, record_epochs, sqlite_in


@pytest.fixture
def sqlite(tmp_path: Path) -> LedgerLocation:
    return sqlite_in(tmp_path)


@pytest.mark.situation("input", "the file of an SQLite ledger is something else", REFUSED)
def test_other_file_is_refused(sqlite: LedgerLocation) -> None:
    path_of(sqlite).write_text("not a database, and long enough to have a header of one\n" * 40)
    with pytest.raises(LedgerError, match="not a database; correct the path"):
        read(sqlite, STUDY)


@pytest.mark.situation(
    "storage",
    "pages of an SQLite ledger are damaged",
    "the study is refused, and told how to save the rest",
)
def test_damaged_database_is_refused(sqlite: LedgerLocation) -> None:
    fill(sqlite, epochs=50)
    with path_of(sqlite).open("rb+") as file:
        file.seek(4096)
        file.write(os.urandom(8 * 4096))
    with pytest.raises(LedgerError, match=r"the ledger sqlite:.*; restore the file from a copy"):
        read(sqlite, STUDY)


@pytest.mark.situation("input", "the folder of an SQLite ledger does not exist", REFUSED)
def test_missing_folder_is_refused(tmp_path: Path) -> None:
    location = LedgerLocation.parse(f"sqlite:///{tmp_path}/none/ledgers.db", open_store(tmp_path))
    with pytest.raises(LedgerError, match=r"No such file or directory.*none"):
        read(location, STUDY)


@pytest.mark.situation(
    "storage",
    "another program locks the SQLite ledger for longer than 10 s",
    "the study stops; what was confirmed is kept, and the same command continues",
)
def test_locked_database(sqlite: LedgerLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.ledger_database._BUSY_S", 0.2)
    fill(sqlite)
    with opened(sqlite, STUDY) as ledger, contextlib.closing(sqlite3.connect(path_of(sqlite))) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(LedgerLost, match=r"database is locked.*the same command continues"):
            record_epochs(ledger, 4)
        with pytest.raises(LedgerError, match="database is locked; end what works on it"):
            open_storage(sqlite)
        other.rollback()
        assert list(ledger.rows[0].epochs) == [1, 2, 3]
        ledger.record_epoch(0, 4, {"loss/total": 2.0}, "a")
    assert read(sqlite, STUDY)[0].epochs[4] == {"loss/total": 2.0}


def test_what_is_confirmed_is_on_the_disk(sqlite: LedgerLocation) -> None:
    """Only the database itself: no write-ahead log that would have to be copied with it."""
    with opened(sqlite, STUDY) as ledger:
        ledger.start(CELL, {})
        assert sorted(os.listdir(path_of(sqlite).parent))[1:] == ["ledgers.db"]
