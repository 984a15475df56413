from pathlib import Path

import pytest

from ftcl.data import DataError, cache_root
from ftcl.data.cache import built_folder


def test_a_folder_is_built_once_per_inputs(cache_home: Path) -> None:
    built: list[Path] = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "file").write_text("content")

    first = built_folder("data", {"seed": 0}, build)
    assert built_folder("data", {"seed": 0}, build) == first
    assert built_folder("data", {"seed": 1}, build) != first
    assert len(built) == 2
    assert first.parent == cache_root() == cache_home / "ftcl"
    assert (first / "file").read_text() == "content"
    assert {path.name for path in cache_root().iterdir()} == {
        path.name for path in cache_root().glob("data-*")
    }


@pytest.mark.situation(
    "kill",
    "building the bundled data is interrupted",
    "the cache holds nothing of it; the next run builds it",
)
def test_a_build_that_fails_leaves_nothing() -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("written")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        built_folder("data", {}, build)
    assert list(cache_root().iterdir()) == []


def test_the_copy_of_a_slower_process_is_dropped() -> None:
    def faster(folder: Path) -> None:
        (folder / "by").write_text("faster")

    def slower(folder: Path) -> None:
        built_folder("data", {}, faster)
        (folder / "by").write_text("slower")

    folder = built_folder("data", {}, slower)
    assert (folder / "by").read_text() == "faster"
    assert list(cache_root().iterdir()) == [folder]


@pytest.mark.situation(
    "environment", "the cache folder cannot be written", "nothing starts; the message names XDG_CACHE_HOME"
)
def test_a_cache_that_cannot_be_written_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match="XDG_CACHE_HOME"):
        built_folder("data", {}, lambda folder: None)
