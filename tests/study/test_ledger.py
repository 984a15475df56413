from pathlib import Path

import pytest

from study.ledger_storage import LedgerLocation
from tests.contracts.ledger import LedgerContract
from tests.study.ledgers import journal_in, sqlite_in


class TestJournal(LedgerContract):
    @pytest.fixture
    def location(self, tmp_path: Path) -> LedgerLocation:
        return journal_in(tmp_path)


class TestSqlite(LedgerContract):
    @pytest.fixture
    def location(self, tmp_path: Path) -> LedgerLocation:
        return sqlite_in(tmp_path)
