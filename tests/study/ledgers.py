"""Ledgers in files, and disks that are full."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

from study.ledger import Ledger
from study.ledger_storage import LedgerLocation
from study.store import open_store
from tests.contracts.ledger import CELL, opened

STUDY = "a study"
REFUSED = "the study is refused before a trial starts, with the reason and the fix"


def journal_in(folder: Path) -> LedgerLocation:
    return LedgerLocation.parse(None, open_store(folder))


def sqlite_in(folder: Path) -> LedgerLocation:
    return LedgerLocation.parse(f"sqlite:///{folder}/ledgers.db", open_store(folder))


def path_of(location: LedgerLocation) -> Path:
    assert location.path is not None
    return location.path


def fill(location: LedgerLocation, epochs: int = 3) -> None:
    with opened(location, STUDY) as ledger:
        ledger.start(CELL, {"finetune.lambda_fsd": 0.5})
        record_epochs(ledger, *range(1, epochs + 1))


def record_epochs(ledger: Ledger, *epochs: int) -> None:
    for epoch in epochs:
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
