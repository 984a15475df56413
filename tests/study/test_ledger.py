from pathlib import Path

import pytest

from study.ledger_storage import LedgerLocation
from study.store import open_store
from tests.contracts.ledger import LedgerContract


class TestJournal(LedgerContract):
    @pytest.fixture
    def location(self, tmp_path: Path) -> LedgerLocation:
        return LedgerLocation.parse(None, open_store(tmp_path))


class TestSqlite(LedgerContract):
    @pytest.fixture
    def location(self, tmp_path: Path) -> LedgerLocation:
        return LedgerLocation.parse(f"sqlite:///{tmp_path}/ledgers.db", open_store(tmp_path))
