"""Data on the machine that reads them: copies of remote ones, and what a machine has verified."""

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcl.data import DataError, VideoDataset, cache_root, load_dataset
from study import copies, staging
from study.staging import NodeUnfit, open_data
from study.store import StorageError, Store, StoreError, open_store
from tests.study.pretended import acm_folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data where they come from, with a file that is none of them."""
    folder = acm_folder(tmp_path / "source")
    (folder / "train" / "notes.txt").write_text("not to be copied")
    (folder / "movie.mp4").write_bytes(b"not to be copied")
    return folder


@pytest.fixture(params=["file", "local", "memory"])
def uri(request: Any, folder: Path) -> str:
    """The same data at a path, behind a driver of fsspec, and in fsspec's memory."""
    if request.param != "memory":
        return f"acm:{request.param}://{folder}"
    store = open_store(f"memory://{folder.parent.name}/data")
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(str(path.relative_to(folder)), path.read_bytes())
    return f"acm:{store.location}"


def opened(spec: str, fingerprint: str | None = None, **changes: Any) -> VideoDataset:
    return open_data(spec, **{"fold": 0, "seed": 0, "hold_out": True, "fingerprint": fingerprint, **changes})


def the_copy() -> Path:
    (copy,) = (cache_root() / "staged").iterdir()
    return copy


def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data that are verified from now on."""
    seen: list[str] = []

    def load(spec: str, **words: Any) -> VideoDataset:
        if words.get("verify", True):
            seen.append(spec)
        return load_dataset(spec, **words)

    monkeypatch.setattr(staging, "load_dataset", load)
    return seen


def test_remote_data_are_those_of_the_folder(uri: str, folder: Path) -> None:
    there, here = load_dataset(f"acm:{folder}"), opened(uri)
    assert (here.spec, here.fingerprint, here.videos) == (uri, there.fingerprint, there.videos)
    np.testing.assert_array_equal(here.features("train_3"), there.features("train_3"))
    assert the_copy() in here.feature_files["train_3"][0].parents
    names = {str(path.relative_to(the_copy())) for path in the_copy().rglob("*.*")}
    assert {"gt.json", "split_train.txt", "test/test_1.npy"} < names
    assert not names & {"movie.mp4", "train/notes.txt"}


def test_a_copy_is_made_once(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    first = opened(uri, say=said.append)
    assert "13 files" in said[0] and "copied" in said[-1]
    monkeypatch.setattr(Store, "chunks", None)
    assert opened(uri) == first
    # A worker of the same machine does not even ask the store.
    monkeypatch.setattr(Store, "states", None)
    assert opened(uri, first.fingerprint) == first


def test_what_has_changed_at_its_source_is_copied_anew(folder: Path) -> None:
    spec = f"acm:file://{folder}"
    first = opened(spec)
    np.save(folder / "train" / "train_3.npy", np.zeros((12, 6), np.float32))
    second = opened(spec)
    assert second.fingerprint != first.fingerprint
    assert second.features("train_3").sum() == 0
    # A study that runs on the former data still has them.
    assert opened(spec, first.fingerprint).features("train_3").sum() == 72


def test_a_copy_that_has_lost_a_file_is_made_anew(folder: Path) -> None:
    spec = f"acm:file://{folder}"
    data = opened(spec)
    (the_copy() / "train" / "train_3.npy").unlink()
    assert opened(spec, data.fingerprint).features("train_3").sum() == 72


def test_a_new_machine_verifies_once(
    uri: str, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(uri)
    shutil.rmtree(cache)
    seen = verifications(monkeypatch)
    for _ in range(3):
        assert opened(uri, data.fingerprint) == data
    assert seen == [f"acm:{the_copy()}"]


@pytest.mark.parametrize("spec", ["synthetic", "acm"])
def test_a_local_study_verifies_nothing_again(
    spec: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(f"acm:{folder}" if spec == "acm" else spec)
    seen = verifications(monkeypatch)
    assert opened(data.spec, data.fingerprint) == data
    assert seen == []


@pytest.mark.parametrize("changes", [{"seed": 1}, {"hold_out": False}])
def test_another_split_is_verified_for_itself(folder: Path, changes: dict[str, Any]) -> None:
    data, other = opened(f"acm:{folder}"), opened(f"acm:{folder}", **changes)
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
def test_verified_data_that_change_are_noticed(folder: Path, change: Any) -> None:
    data = opened(f"acm:{folder}")
    change(folder)
    with pytest.raises(NodeUnfit, match=r"fingerprint|changed|two splits"):
        opened(data.spec, data.fingerprint)


@pytest.mark.situation(
    "environment",
    "a node of the cluster lacks the data, or has others",
    "the attempt is on record as node_unfit with node and reason, and goes on on another node",
)
def test_a_machine_without_the_data_is_unfit(folder: Path) -> None:
    fingerprint = opened(f"acm:{folder}").fingerprint
    shutil.move(folder, folder.with_name("elsewhere"))
    with pytest.raises(NodeUnfit, match=f"{os.uname().nodename} cannot use .* {folder} does not exist"):
        opened(f"acm:{folder}", fingerprint)
    with pytest.raises(DataError) as told:
        opened(f"acm:{folder}")
    assert not isinstance(told.value, NodeUnfit)


@pytest.mark.situation(
    "input",
    "the URI of the data holds none",
    "one message names the file that is missing; nothing is started",
)
def test_an_empty_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/nothing/gt.json does not exist"):
        opened(f"acm:file://{tmp_path}/nothing")


def test_wrong_addresses_are_told_before_anything_is_copied(folder: Path) -> None:
    with pytest.raises(StoreError, match="names no bucket"):
        opened("thumos14:s3:///")
    with pytest.raises(DataError, match="unknown data"):
        opened(f"acme:file://{folder}")
    assert not (cache_root() / "staged").exists()


@pytest.mark.situation(
    "storage",
    "the disk of a node has no room for the data that are to be copied there",
    "the message says how much is needed and free, and where; a worker's trial goes on on another node",
)
def test_too_small_a_disk_is_told_with_numbers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 99))
    words = r"has no room for the data .*: 0.0 MB are needed in .*, 0.0 MB are free; .* XDG_CACHE_HOME"
    with pytest.raises(DataError, match=words):
        opened(f"acm:file://{folder}")
    with pytest.raises(NodeUnfit, match=words):
        opened(f"acm:file://{folder}", "any")


def test_a_disk_that_fills_up_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(store: Store, name: str) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        yield b""

    monkeypatch.setattr(Store, "chunks", full)
    with pytest.raises(DataError, match="has no room"):
        opened(f"acm:file://{folder}")
    assert list((cache_root() / "staged").iterdir()) == []


def test_a_silent_store_is_no_fault_of_the_node(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(store: Store) -> None:
        raise StorageError(errno.EIO, "it does not answer", store.location)

    monkeypatch.setattr(Store, "states", silent)
    with pytest.raises(StorageError):
        opened(uri, "any")
    with pytest.raises(DataError, match=r"cannot read the data .*it does not answer"):
        opened(uri)


def copy_until_killed(spec: str) -> None:
    """Copy all files but one, and die by SIGKILL."""
    copied: list[str] = []
    original = Store.chunks

    def chunks(store: Store, name: str) -> Iterator[bytes]:
        copied.append(name)
        if len(copied) == 12:
            time.sleep(0.2)
            os.kill(os.getpid(), 9)
        return original(store, name)

    Store.chunks = chunks  # type: ignore[method-assign]
    opened(spec)


@pytest.mark.situation(
    "kill",
    "a process is killed while it copies the data to its machine",
    "there is no copy, and what it left is removed by the next process that copies",
)
def test_a_killed_copier_leaves_no_copy(folder: Path) -> None:
    spec = f"acm:file://{folder}"
    process = multiprocessing.get_context("fork").Process(target=copy_until_killed, args=(spec,))
    process.start()
    process.join()
    assert process.exitcode == -9
    (left,) = (cache_root() / "staged").iterdir()
    assert left.name.endswith(".tmp") and any(left.rglob("*.npy"))
    assert opened(spec).features("train_3").sum() == 72
    assert not left.exists()


def test_one_copies_and_the_others_wait(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, made, said = f"acm:file://{folder}", [], []
    original = copies._copy

    def slow(*arguments: Any) -> None:
        made.append(arguments)
        time.sleep(0.3)
        original(*arguments)

    monkeypatch.setattr(copies, "_copy", slow)
    threads = [threading.Thread(target=lambda: opened(spec, say=said.append)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1
    assert sum("waiting for it" in text for text in said) == 3


def test_a_copy_serves_all_presets_and_is_made_by_one_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy, most = [0], [0]
    original = copies._copy

    def slow(*arguments: Any) -> None:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.3)
        original(*arguments)
        busy[0] -= 1

    def open_as(preset: str) -> None:
        with contextlib.suppress(DataError):  # too narrow for THUMOS14
            opened(f"{preset}:file://{folder}")

    monkeypatch.setattr(copies, "_copy", slow)
    threads = [threading.Thread(target=open_as, args=(preset,)) for preset in ("acm", "thumos14")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]
    assert the_copy().is_dir()


def test_data_that_change_under_the_copier_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = copies._copy

    def copy(*arguments: Any) -> None:
        original(*arguments)
        np.save(folder / "train" / "train_3.npy", np.zeros_like(np.load(folder / "train" / "train_3.npy")))

    monkeypatch.setattr(copies, "_copy", copy)
    with pytest.raises(DataError, match="changed while it was copied"):
        opened(f"acm:file://{folder}")
    assert list((cache_root() / "staged").iterdir()) == []


def test_a_cache_behind_a_link_is_verified_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "link"))
    spec = f"acm:file://{folder}"
    fingerprint = opened(spec).fingerprint
    again = verifications(monkeypatch)
    opened(spec, fingerprint)
    assert again == []


def test_a_disk_that_locks_no_files_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(DataError, match=r"No locks available.*XDG_CACHE_HOME"):
        opened(f"acm:{folder}")


def test_a_lock_ends_with_its_block(folder: Path) -> None:
    opened(f"acm:{folder}")
    for path in (cache_root() / "locks").iterdir():
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/1/nowhere")
    with pytest.raises(DataError, match=r"cannot .*XDG_CACHE_HOME"):
        opened("synthetic")
