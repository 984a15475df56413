"""What a launch records of the code that it runs."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from study import inspection, manifest


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Let each test ask for the code anew."""
    manifest.own_code.cache_clear()
    yield
    manifest.own_code.cache_clear()


def commit_all(folder: Path) -> None:
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", "-C", str(folder), *arguments], check=True, capture_output=True)


def test_revision_is_that_of_the_checkout_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A home that is a repository of its own (settings, say) is not the source."""
    checkout = tmp_path / "home" / "checkout"
    checkout.mkdir(parents=True)
    (checkout / "file").write_text("as committed")
    monkeypatch.setattr(manifest, "_ROOT", checkout)
    commit_all(checkout.parent)
    assert manifest.environment()["git"] is None
    assert manifest.new_launch((), 1)["revision"] is None
    commit_all(checkout)
    (checkout / "file").write_text("changed")
    git = manifest.environment()["git"]
    assert manifest.new_launch((), 1)["revision"] == git["revision"] and "+changed" in git["diff"]


def test_each_launch_has_a_digest_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"study/a.py": "1", "ftcl/b.py": "2"}

    def digest_with(changes: dict[str, str]) -> object:
        monkeypatch.setattr(inspection, "source", lambda: {**files, **changes})
        manifest.own_code.cache_clear()
        return manifest.new_launch((), 1)["source"]

    before = digest_with({})
    # An installation has no sources in C, and search spaces are on record themselves.
    others = {"ftcl/c.c": "3", "search_spaces/d.yaml": "4", "search_spaces/__init__.py": "5"}
    assert digest_with(others) == before is not None
    assert digest_with({"study/a.py": "other"}) != before
    assert digest_with({"study/more.py": "6"}) != before


def test_where_the_code_cannot_be_found_no_digest_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspection, "source", dict)
    assert manifest.new_launch((), 1)["source"] is None
