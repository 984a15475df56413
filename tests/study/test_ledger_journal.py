"""A journal as a ledger: torn and damaged lines, locks, and writes that are gathered."""

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from study.ledger import Ledger
from study.ledger_storage import LedgerError, LedgerLocation, LedgerLost, hold, open_storage
from tests.contracts.ledger import CELL, opened, read
from tests.study.ledgers import STUDY, fill, journal_in, largest_file, path_of, record_epochs


@pytest.fixture
def journal(tmp_path: Path) -> LedgerLocation:
    return journal_in(tmp_path)


@pytest.mark.situation(
    "kill",
    "the driver is killed in the middle of an append to the ledger",
    "the unfinished line is cut off at the next opening, which says so; nothing confirmed is lost",
)
@pytest.mark.parametrize(
    "torn", [b'{"op_code": 4, "wor', b"\xff", b"{", b"\0" * 5000, b'{"op_code": 4,\n', b"\0\0\n", b"7\n"]
)
def test_torn_last_line_is_cut(journal: LedgerLocation, torn: bytes) -> None:
    fill(journal)
    whole = path_of(journal).read_bytes()
    path_of(journal).write_bytes(whole + torn)
    with hold(journal, STUDY) as held:
        assert len(held.notes) == 1
        assert f"cut {len(torn)} bytes" in held.notes[0]
        assert path_of(journal).read_bytes() == whole
    with opened(journal, STUDY) as ledger:
        record_epochs(ledger, 4)
    assert list(read(journal, STUDY)[0].epochs) == [1, 2, 3, 4]


def test_torn_long_line_is_cut(journal: LedgerLocation) -> None:
    fill(journal)
    whole = path_of(journal).read_bytes()
    path_of(journal).write_bytes(whole + b'{"op_code": "' + b"x" * 200_000)
    assert len(read(journal, STUDY)[0].epochs) == 3
    assert path_of(journal).read_bytes() == whole


def test_every_prefix_of_the_journal_opens(journal: LedgerLocation) -> None:
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
def test_damaged_line_is_named_with_a_command_that_helps(journal: LedgerLocation, damage: bytes) -> None:
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
def test_other_file_is_refused_and_kept(journal: LedgerLocation) -> None:
    path_of(journal).write_text("one\ntwo\nthree")
    with pytest.raises(LedgerError, match="is not a ledger; move it away"):
        read(journal, STUDY)
    assert path_of(journal).read_text() == "one\ntwo\nthree"


@pytest.mark.situation(
    "kill",
    "the driver is killed while it holds Optuna's lock on the journal",
    "the next launch removes the lock, says so and goes on at once, instead of waiting 30 s",
)
def test_stale_lock_is_removed(journal: LedgerLocation) -> None:
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


def test_block_waits_for_the_disk_once(journal: LedgerLocation, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    with opened(journal, STUDY) as ledger:
        ledger.start(CELL, {})
        before = path_of(journal).read_bytes()
        monkeypatch.setattr(os, "fsync", flushed.append)
        with ledger.together():
            record_epochs(ledger, 1, 2, 3, 4)
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
def test_block_that_is_cut_anywhere_leaves_its_first_writes(journal: LedgerLocation) -> None:
    with opened(journal, STUDY) as ledger:
        ledger.start(CELL, {})
        begin = path_of(journal).stat().st_size
        with ledger.together():
            record_epochs(ledger, 1, 2, 3, 4)
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
def test_block_that_finds_the_disk_full_is_written_later(journal: LedgerLocation) -> None:
    with opened(journal, STUDY) as ledger:
        ledger.start(CELL, {})
        before = path_of(journal).read_bytes()
        with (
            largest_file(len(before) + 100),
            pytest.raises(LedgerLost, match="cannot write"),
            ledger.together(),
        ):
            record_epochs(ledger, 1, 2, 3, 4)
        assert path_of(journal).read_bytes() == before
        record_epochs(ledger, 5, 6)
        assert list(ledger.rows[0].epochs) == [1, 2, 3, 4, 5, 6]
    assert repr(read(journal, STUDY)) == repr(ledger.rows)


def test_block_whose_writing_is_interrupted_is_written_by_an_orderly_end(
    journal: LedgerLocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with opened(journal, STUDY) as ledger:
        ledger.start(CELL, {})
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt), ledger.together():
            patched.setattr(os, "fsync", interrupt)
            record_epochs(ledger, 1)
        ledger.set_waiting(0)
    assert read(journal, STUDY)[0].status == "waiting"
    assert repr(read(journal, STUDY)) == repr(ledger.rows)


def test_block_is_not_written_after_what_another_process_wrote(journal: LedgerLocation) -> None:
    with opened(journal, STUDY) as ledger:
        ledger.start(CELL, {})
        other = Ledger(open_storage(journal), STUDY)
        with pytest.raises(LedgerLost, match="another process"), ledger.together():
            record_epochs(ledger, 1)
            record_epochs(other, 2)
    assert list(read(journal, STUDY)[0].epochs) == [2]


def test_nothing_but_the_journal_is_left_behind(journal: LedgerLocation) -> None:
    fill(journal)
    assert os.listdir(path_of(journal).parent) == ["ledger.journal"]
