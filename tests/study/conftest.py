from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from study.plan import Options, Plan, make_plan
from tests.study.pretended import SPACE


@pytest.fixture
def space_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the test space with some keys replaced."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**SPACE, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def make_small_plan(space_file: Callable[..., Path], tmp_path: Path) -> Callable[..., Plan]:
    """Return a function that plans the test study; keyword arguments are options, `space` replaces keys."""

    def make(space: dict[str, Any] | None = None, **options: Any) -> Plan:
        path = space_file(**(space or {}))
        return make_plan(Options(**{"space": str(path), "out": str(tmp_path / "out"), **options}))

    return make
