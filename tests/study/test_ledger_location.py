"""Which places a ledger may have, and how they are shown."""

from pathlib import Path

import pytest

from study.ledger_storage import LedgerError, LedgerLocation
from study.store import open_store
from tests.study.ledgers import REFUSED, path_of


def test_default_is_a_journal_in_out(tmp_path: Path) -> None:
    location = LedgerLocation.parse(None, open_store(tmp_path))
    assert (location.kind, location.path) == ("journal", tmp_path / "ledger.journal")
    assert LedgerLocation.parse(location.shown, open_store(tmp_path)) == location


@pytest.mark.parametrize("text", ["sqlite:////data/team.db", "sqlite:///team.db", "sqlite:////data/a%20b.db"])
def test_sqlite_is_a_file(tmp_path: Path, text: str) -> None:
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
def test_server_is_shown_without_its_password(tmp_path: Path, text: str, shown: str) -> None:
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
def test_other_places_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(LedgerError, match=r"--ledger .*") as caught:
        LedgerLocation.parse(text, open_store(tmp_path))
    assert "secret" not in str(caught.value)


@pytest.mark.situation("input", "OUT is on object storage and --ledger is not given", REFUSED)
def test_object_storage_needs_a_place_for_the_ledger() -> None:
    store = open_store("memory://study")
    with pytest.raises(LedgerError, match=r"memory://study is object storage.*--ledger sqlite:"):
        LedgerLocation.parse(None, store)
    assert LedgerLocation.parse("sqlite:////data/team.db", store).kind == "sqlite"
