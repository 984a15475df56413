"""Copies of remote data on the machine that reads them."""

import contextlib
import errno
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcl.data import DataError, cache_root, load_dataset
from study import copies
from study.staging import NodeUnfit
from study.store import StorageError, Store, StoreError, open_store
from tests.study.staged import opened, verifications

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(params=["file", "local", "memory"])
def uri(request: Any, data_folder: Path) -> str:
    """The same data at a path, behind a driver of fsspec, and in fsspec's memory."""
    if request.param != "memory":
        return f"acm:{request.param}://{data_folder}"
    store = open_store(f"memory://{data_folder.parent.name}/data")
    for path in data_folder.rglob("*"):
        if path.is_file():
            store.write(str(path.relative_to(data_folder)), path.read_bytes())
    return f"acm:{store.location}"


def the_copy() -> Path:
    (copy,) = (cache_root() / "staged").iterdir()
    return copy


def test_remote_data_are_those_of_the_folder(uri: str, data_folder: Path) -> None:
    there, here = load_dataset(f"acm:{data_folder}"), opened(uri)
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


def test_what_has_changed_at_its_source_is_copied_anew(data_folder: Path) -> None:
    spec = f"acm:file://{data_folder}"
    first = opened(spec)
    np.save(data_folder / "train" / "train_3.npy", np.zeros((12, 6), np.float32))
    second = opened(spec)
    assert second.fingerprint != first.fingerprint
    assert second.features("train_3").sum() == 0
    # A study that runs on the former data still has them.
    assert opened(spec, first.fingerprint).features("train_3").sum() == 72


def test_a_copy_that_has_lost_a_file_is_made_anew(data_folder: Path) -> None:
    spec = f"acm:file://{data_folder}"
    data = opened(spec)
    (the_copy() / "train" / "train_3.npy").unlink()
    assert opened(spec, data.fingerprint).features("train_3").sum() == 72


def test_a_new_machine_verifies_once(
    uri: str, data_folder: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = opened(uri)
    shutil.rmtree(own_cache)
    seen = verifications(monkeypatch)
    for _ in range(3):
        assert opened(uri, data.fingerprint) == data
    assert seen == [f"acm:{the_copy()}"]


@pytest.mark.situation(
    "input",
    "the URI of the data holds none",
    "one message names the file that is missing; nothing is started",
)
def test_an_empty_place_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}/nothing/gt.json does not exist"):
        opened(f"acm:file://{tmp_path}/nothing")


def test_wrong_addresses_are_told_before_anything_is_copied(data_folder: Path) -> None:
    with pytest.raises(StoreError, match="names no bucket"):
        opened("thumos14:s3:///")
    with pytest.raises(DataError, match="unknown data"):
        opened(f"acme:file://{data_folder}")
    assert not (cache_root() / "staged").exists()


@pytest.mark.situation(
    "storage",
    "the disk of a node has no room for the data that are to be copied there",
    "the message says how much is needed and free, and where; a worker's trial goes on on another node",
)
def test_too_small_a_disk_is_told_with_numbers(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 99))
    words = r"has no room for the data .*: 0.0 MB are needed in .*, 0.0 MB are free; .* XDG_CACHE_HOME"
    with pytest.raises(DataError, match=words):
        opened(f"acm:file://{data_folder}")
    with pytest.raises(NodeUnfit, match=words):
        opened(f"acm:file://{data_folder}", "any")


def test_a_disk_that_older_copies_fill_is_told_which(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = f"acm:file://{data_folder}"
    opened(spec)
    older = the_copy()
    np.save(data_folder / "train" / "train_3.npy", np.zeros((12, 6), np.float32))
    monkeypatch.setattr(copies.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 99))
    with pytest.raises(DataError, match=f"older copies of the same data, .*: {older}$"):
        opened(spec)
    assert older.is_dir()  # a study may still read it


def test_a_disk_that_fills_up_leaves_nothing_behind(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(store: Store, name: str) -> Iterator[bytes]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        yield b""

    monkeypatch.setattr(Store, "chunks", full)
    with pytest.raises(DataError, match="has no room"):
        opened(f"acm:file://{data_folder}")
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
def test_a_killed_copier_leaves_no_copy(data_folder: Path) -> None:
    spec = f"acm:file://{data_folder}"
    process = multiprocessing.get_context("fork").Process(target=copy_until_killed, args=(spec,))
    process.start()
    process.join()
    assert process.exitcode == -9
    (left,) = (cache_root() / "staged").iterdir()
    assert left.name.endswith(".tmp") and any(left.rglob("*.npy"))
    assert opened(spec).features("train_3").sum() == 72
    assert not left.exists()


def at_once(calls: Sequence[Callable[[], object]]) -> None:
    """Make each call in a thread of its own, and wait for all."""
    threads = [threading.Thread(target=call) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_one_copies_and_the_others_wait(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, made, said = f"acm:file://{data_folder}", [], []
    original = copies._copy

    def slow(*arguments: Any) -> None:
        made.append(arguments)
        time.sleep(0.3)
        original(*arguments)

    monkeypatch.setattr(copies, "_copy", slow)
    at_once([lambda: opened(spec, say=said.append)] * 4)
    assert len(made) == 1
    assert sum("waiting for it" in text for text in said) == 3


def test_a_copy_serves_all_presets_and_is_made_by_one_at_a_time(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
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
            opened(f"{preset}:file://{data_folder}")

    monkeypatch.setattr(copies, "_copy", slow)
    at_once([lambda: open_as("acm"), lambda: open_as("thumos14")])
    assert most == [1]
    assert the_copy().is_dir()


def test_data_that_change_under_the_copier_are_refused(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = copies._copy

    def copy(*arguments: Any) -> None:
        original(*arguments)
        path = data_folder / "train" / "train_3.npy"
        np.save(path, np.zeros_like(np.load(path)))

    monkeypatch.setattr(copies, "_copy", copy)
    with pytest.raises(DataError, match="changed while it was copied"):
        opened(f"acm:file://{data_folder}")
    assert list((cache_root() / "staged").iterdir()) == []
