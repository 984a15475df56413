"""What a machine verifies of the data that it reads, and when it does so again."""

import errno
import fcntl
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcl.data import DataError, cache_root
from study.staging import NodeUnfit
from tests.study.staged import opened, verifications

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.mark.parametrize("spec", ["synthetic", "acm"])
def test_a_local_study_verifies_nothing_again(
    spec: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(f"acm:{data_folder}" if spec == "acm" else spec)
    seen = verifications(monkeypatch)
    assert opened(data.spec, data.fingerprint) == data
    assert seen == []


@pytest.mark.parametrize("changes", [{"seed": 1}, {"hold_out": False}])
def test_another_split_is_verified_for_itself(data_folder: Path, changes: dict[str, Any]) -> None:
    data, other = opened(f"acm:{data_folder}"), opened(f"acm:{data_folder}", **changes)
    assert data.fingerprint != other.fingerprint
    assert opened(data.spec, other.fingerprint, **changes) == other
    with pytest.raises(NodeUnfit):
        opened(data.spec, other.fingerprint)


def rewrite_gt(folder: Path) -> None:
    path = folder / "gt.json"
    path.write_text(path.read_text().replace("3.0", "4.0"))


@pytest.mark.parametrize(
    "change",
    [
        rewrite_gt,
        lambda folder: np.save(folder / "test" / "test_0.npy", np.zeros((12, 6), np.float32)),
        lambda folder: (folder / "split_validation.txt").write_text("train_0\n"),
        lambda folder: (folder / "meta.json").write_text('{"snippet_s": 1}'),
    ],
    ids=["annotations", "features", "split", "meta"],
)
def test_verified_data_that_change_are_noticed(data_folder: Path, change: Any) -> None:
    data = opened(f"acm:{data_folder}")
    change(data_folder)
    with pytest.raises(NodeUnfit, match=r"fingerprint|changed|two splits"):
        opened(data.spec, data.fingerprint)


@pytest.mark.situation(
    "environment",
    "a node of the cluster lacks the data, or has others",
    "the attempt is on record as node_unfit with node and reason, and goes on on another node",
)
def test_a_machine_without_the_data_is_unfit(data_folder: Path) -> None:
    fingerprint = opened(f"acm:{data_folder}").fingerprint
    shutil.move(data_folder, data_folder.with_name("elsewhere"))
    with pytest.raises(NodeUnfit, match=f"{os.uname().nodename} cannot use .* {data_folder} does not exist"):
        opened(f"acm:{data_folder}", fingerprint)
    with pytest.raises(DataError) as told:
        opened(f"acm:{data_folder}")
    assert not isinstance(told.value, NodeUnfit)


def test_a_cache_behind_a_link_is_verified_once(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    spec = f"acm:file://{data_folder}"
    fingerprint = opened(spec).fingerprint
    again = verifications(monkeypatch)
    opened(spec, fingerprint)
    assert again == []


def test_a_disk_that_locks_no_files_is_named(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DataError, match=r"No locks available.*XDG_CACHE_HOME"):
        opened(f"acm:{data_folder}")


def test_a_lock_ends_with_its_block(data_folder: Path) -> None:
    opened(f"acm:{data_folder}")
    for path in (cache_root() / "locks").iterdir():
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/1/nowhere")
    with pytest.raises(DataError, match=r"cannot .*XDG_CACHE_HOME"):
        opened("synthetic")
