"""A ledger on a disk that fills: a small tmpfs, which only root may mount."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from study.disk import is_disk_full
from study.failures import Failure
from study.ledger_storage import LedgerLocation, LedgerLost
from study.store import open_store
from tests.contracts.ledger import CELL, opened, read


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_full_disk_is_told_apart_and_what_was_confirmed_stays(small_disk: Path, kind: str) -> None:
    text = None if kind == "journal" else f"sqlite:///{small_disk}/ledgers.db"
    location = LedgerLocation.parse(text, open_store(small_disk))
    reserve = small_disk / "reserve"
    reserve.write_bytes(b"\0" * 50_000)
    with opened(location, "a study") as ledger:
        ledger.start(CELL, {})
        with pytest.raises(LedgerLost) as caught:
            while True:
                ledger.record_failure(0, Failure("timeout", "x" * 5000, 1, 1, 1.0, "retry", "a", "now"))
        assert is_disk_full(caught.value)
        failures = ledger.rows[0].failures
        reserve.unlink()
        ledger.set_waiting(0)
    row = read(location, "a study")[0]
    assert (row.status, row.failures) == ("waiting", failures)
