from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ftcl.data.folder import Layout


@pytest.fixture(autouse=True)
def cache_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for every test."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pytest.MonkeyPatch]:
    """One cache for the module: data sets that are slow to build are built once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("shared")))
        yield patch


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """Ten training and two test videos of the classes `jump` and `run`."""
    layout = Layout(tmp_path / "data")
    for index in range(5):
        layout.add("train", f"r{index}", "run")
        layout.add("train", f"j{index}", "jump", "jump")
    layout.add("test", "t0", "run", "jump")
    layout.add("test", "t1", "jump", num_snippets=7)
    return layout
