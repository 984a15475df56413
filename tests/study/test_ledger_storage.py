"""What happens where the file of a ledger, its lock or its disk is not as it should be."""

import contextlib
import errno
import fcntl
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.ledger_storage import LedgerBusy, LedgerError, LedgerLocation, LedgerLost, hold
from tests.contracts.ledger import opened, read
from tests.study.ledgers import REFUSED, STUDY, fill, journal_in, largest_file, path_of, sqlite_in


@pytest.fixture(params=[journal_in, sqlite_in], ids=["journal", "sqlite"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> LedgerLocation:
    location: LedgerLocation = request.param(tmp_path)
    return location


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


@pytest.mark.situation(
    "storage",
    "the disk of the ledger is full",
    "the study stops; no half-written change stays, and the same command continues",
)
def test_full_disk_leaves_no_half_write(file: LedgerLocation) -> None:
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
def test_read_only_file_is_refused(elsewhere: LedgerLocation) -> None:
    fill(elsewhere)
    path_of(elsewhere).chmod(0o444)
    path_of(elsewhere).parent.chmod(0o777)
    with few_rights(), pytest.raises(LedgerError, match="give yourself the right to"):
        read(elsewhere, STUDY)


@pytest.mark.situation("environment", "the folder of the ledger may not be written", REFUSED)
def test_read_only_folder_is_refused(elsewhere: LedgerLocation) -> None:
    path_of(elsewhere).parent.chmod(0o555)
    message = r"cannot write beside the ledger .* \(Permission denied"
    with few_rights(), pytest.raises(LedgerError, match=message):
        read(elsewhere, STUDY)


@pytest.mark.situation("environment", "the file system of the ledger cannot lock files", REFUSED)
def test_file_system_without_locks_is_refused(file: LedgerLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(LedgerError, match=r"cannot lock files .* --ledger"):
        read(file, STUDY)


def test_removed_lock_is_noticed(file: LedgerLocation) -> None:
    with hold(file, STUDY) as held:
        lock = next(path_of(file).parent.glob(".*.driver"))
        lock.unlink()
        with pytest.raises(LedgerLost, match="was removed or replaced"):
            held.check()
        lock.touch()
        with pytest.raises(LedgerLost, match="was removed or replaced"):
            held.check()
    assert lock.exists()  # it is another driver's now


def test_study_is_held_on_a_full_disk(file: LedgerLocation) -> None:
    fill(file)
    with largest_file(0), hold(file, STUDY) as held:
        held.check()
        with pytest.raises(LedgerBusy, match="another process runs the study"), hold(file, STUDY):
            pass


def test_ledger_that_is_a_folder_is_refused(file: LedgerLocation) -> None:
    path_of(file).mkdir()
    with pytest.raises(LedgerError, match=re.escape(str(path_of(file)))):
        read(file, STUDY)
