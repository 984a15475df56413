"""Local folders and fsspec's memory; a real S3 server stands in tests/system."""

import errno
import os
import pickle
import secrets
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from study.store import StorageError, Store, StoreError, open_store
from tests.contracts.store import StoreContract


class TestLocal(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(tmp_path / "out")


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> Store:
        return open_store(f"memory://{secrets.token_hex(4)}/out")


class TestFsspec(StoreContract):
    """A driver of fsspec that is no object store: files are written aside and moved into place."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(f"local://{tmp_path}/out")


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


def test_a_local_folder_may_be_written_in_several_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    places = ["out", str(tmp_path / "out"), tmp_path / "out", f"file://{tmp_path}/out", "~/out"]
    assert {open_store(place).local for place in places} == {tmp_path / "out"}
    assert open_store("a b%20c").local == tmp_path / "a b%20c"


def test_a_remote_store_has_no_folder_and_no_known_limit() -> None:
    store = open_store("memory://study/out")
    assert store.local is None
    assert store.free_bytes() is None
    assert str(store) == "memory://study/out"
    assert store.place("a/b") == "memory://study/out/a/b"


def test_free_space_is_known_before_the_folder_exists(tmp_path: Path) -> None:
    free = open_store(tmp_path / "a" / "b").free_bytes()
    assert free is not None
    assert abs(free - shutil.disk_usage(tmp_path).free) < 2**28


def test_a_check_makes_no_folder(tmp_path: Path) -> None:
    open_store(tmp_path / "a" / "b").check()
    assert list(tmp_path.iterdir()) == []


def input_case(address: str, words: str, what: str, then: str) -> Any:
    return pytest.param(address, words, marks=pytest.mark.situation("input", what, then), id=what)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        input_case(
            "s3://key:secret@bucket/study",
            "has credentials in it, which would stand in records and messages; leave them out",
            "the address of an object store has keys in it",
            "they are refused without being shown; the message says where keys belong",
        ),
        ("s3://bucket/study?secret_key=secret", "has credentials in it"),
        ("s3://bucket/study?Access_Key=secret", "has credentials in it"),
        ("s3://secret@bucket/study", "has credentials in it"),
        ("sftp://user:secret@host/study", "has credentials in it"),
        input_case(
            "s3://bucket/study?endpoint=localhost",
            "unknown parameter endpoint; there are endpoint_override, region, scheme",
            "the address of an object store has a parameter that does not exist",
            "it is named, with those that do",
        ),
        ("s3:///study", "names no bucket"),
        input_case(
            "wrong://bucket/study",
            "Protocol not known: wrong",
            "the address begins with a scheme that nothing knows",
            "it is named before anything starts",
        ),
        input_case(
            "sftp://host/study",
            'requires "paramiko" to be installed',
            "the address needs a package that is not installed",
            "the package is named",
        ),
    ],
)
@pytest.mark.usefixtures("keys")
def test_addresses_that_cannot_be_used_are_refused(address: str, words: str) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(address)
    assert words in str(caught.value)
    assert "secret" not in str(caught.value).replace("AWS_SECRET", "")
    assert "\n" not in str(caught.value)


def test_users_and_containers_are_part_of_an_address() -> None:
    assert open_store("abfs://container@account.dfs.core.windows.net/study").local is None
    with pytest.raises(StoreError, match="paramiko"):
        open_store("sftp://user@host/study")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken: list[socket.socket] = []

        def take() -> None:
            try:
                while True:
                    taken.append(server.accept()[0])
            except OSError:
                return

        threading.Thread(target=take, daemon=True).start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


@pytest.mark.usefixtures("keys")
@pytest.mark.situation(
    "storage",
    "the object store refuses connections, or takes them and never answers",
    "the study ends before its start, within 10 s, and says what to check",
)
@pytest.mark.parametrize("answers", ["refused", "silent", "unknown host"])
def test_a_store_that_does_not_answer_is_given_up(answers: str, silent_port: int) -> None:
    host = {"refused": "127.0.0.1:9", "silent": f"127.0.0.1:{silent_port}", "unknown host": "no.invalid"}
    store = open_store(f"s3://bucket/study?endpoint_override={host[answers]}&scheme=http")
    started_s = time.monotonic()
    with pytest.raises(StoreError, match=r"it does not answer: check the address .*choose another --out"):
        store.check()
    assert time.monotonic() - started_s < 10


@pytest.mark.usefixtures("keys")
def test_errors_of_a_remote_store_name_the_file() -> None:
    store = open_store("s3://bucket/study?endpoint_override=127.0.0.1:9&scheme=http")
    with pytest.raises(StorageError, match=r"^s3://bucket/study/file: it does not answer"):
        store.read("file")
    with pytest.raises(StorageError, match=r"^s3://bucket/study/folder/file: it does not answer") as caught:
        store.write("folder/file", b"x")
    assert caught.value.filename == "s3://bucket/study/folder/file"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.usefixtures("keys")
def test_the_endpoint_may_stand_in_the_environment(monkeypatch: pytest.MonkeyPatch, silent_port: int) -> None:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        with monkeypatch.context() as scope:
            scope.setenv(name, "http://127.0.0.1:9/")
            with pytest.raises(StoreError, match="it does not answer"):
                open_store("s3://bucket/study").check()


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(StoreError, match=r"cannot write to /proc/study \(.*\); choose another --out"):
        open_store("/proc/study").check()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_how_much_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("os.fsync", full)
    store = open_store(tmp_path)
    with pytest.raises(OSError, match=r"folder/file: .* 1\.5 MB are needed, .* are free") as caught:
        store.write("folder/file", bytes(1_500_000))
    assert caught.value.errno == number
    assert store.names("folder") == []
