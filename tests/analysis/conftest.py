from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.analysis import made_up


@pytest.fixture
def write_study(tmp_path: Path) -> Callable[..., Path]:
    """Return a writer of made-up studies (`made_up.write_study`), which returns their folder."""

    def write(values: made_up.Values, **changes: Any) -> Path:
        made_up.write_study(tmp_path / "out", values, **changes)
        return tmp_path / "out"

    return write
