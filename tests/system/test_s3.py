"""A study's files on a real object store: the suites that local folders pass, and what a server adds."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from analysis.__main__ import main as analyse
from study.job import News
from study.records import (
    SCHEMA_VERSION,
    curves_folder,
    details_name,
    predictions_name,
    read_manifest,
)
from study.store import Store, StoreError, open_store
from study.trial import run_trial
from tests.analysis.made_up import write_study
from tests.contracts.checkpoints import CheckpointContract
from tests.contracts.store import StoreContract
from tests.study.trials import FINETUNE, PRETRAIN, epochs_of, make_setup, result_of, told
from tests.system.s3 import Server, running_server


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def store(s3: Server) -> Store:
    return open_store(s3.uri(f"{secrets.token_hex(4)}/study"))


class TestStore(StoreContract):
    pass


class TestCheckpoints(CheckpointContract):
    pass


def test_no_temporary_objects_and_no_folders_are_left(store: Store, s3: Server) -> None:
    store.write("a/b", b"x")
    store.delete_folder("a")
    assert store.names("") == store.names("a") == []


def test_the_endpoint_may_stand_in_the_environment(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    store = open_store(f"s3://{s3.bucket}/{secrets.token_hex(4)}")
    store.check()
    store.write("a", b"x")
    assert store.names("") == ["a"]


@pytest.mark.situation(
    "storage",
    "the bucket of the object store does not exist",
    "the study ends before its start, and says to create it or to correct its name",
)
def test_a_bucket_that_does_not_exist_is_named(s3: Server) -> None:
    with pytest.raises(StoreError, match="the bucket does not exist: create it, or correct its name"):
        open_store(s3.uri("study", bucket="no-such-bucket")).check()


@pytest.mark.situation(
    "storage",
    "the keys of the object store are unknown to it, or wrong",
    "the study ends before its start, and names the variables to correct",
)
@pytest.mark.parametrize(
    "wrong", [{"AWS_ACCESS_KEY_ID": "unknown"}, {"AWS_SECRET_ACCESS_KEY": "wrong"}], ids=["unknown", "wrong"]
)
def test_wrong_keys_are_refused(s3: Server, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]) -> None:
    keys = s3.make_keys("s3:*")
    for name, value in {**keys, **wrong}.items():
        monkeypatch.setenv(name, value)
    with (
        s3.asking_for_keys(),
        pytest.raises(StoreError, match="its keys are not accepted: correct AWS_ACCESS_KEY_ID"),
    ):
        open_store(s3.uri("study")).check()


@pytest.mark.situation(
    "storage",
    "the keys of the object store may read, but not write",
    "the study ends before its start, and says that access is denied",
)
def test_keys_that_may_only_read_are_refused(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.make_keys("s3:GetObject", "s3:ListBucket").items():
        monkeypatch.setenv(name, value)
    with s3.asking_for_keys(), pytest.raises(StoreError, match="access is denied"):
        open_store(s3.uri("study")).check()


def test_right_keys_do(s3: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.make_keys("s3:*").items():
        monkeypatch.setenv(name, value)
    with s3.asking_for_keys():
        open_store(s3.uri("study")).check()


def test_a_server_that_hangs_is_given_up(s3: Server) -> None:
    s3.hang()
    started_s = time.monotonic()
    try:
        with pytest.raises(StoreError, match="it does not answer"):
            open_store(s3.uri("study")).check()
    finally:
        s3.go_on()
    assert time.monotonic() - started_s < 10


@pytest.mark.situation(
    "kill",
    "a worker whose study lies on an object store is killed with SIGKILL, twice",
    "the trial goes on from its last epoch, with the same numbers and curves as an undisturbed one",
)
def test_a_killed_trial_continues_bit_for_bit(store: Store, tmp_path: Path) -> None:
    undisturbed = make_setup(tmp_path)
    setup = replace(undisturbed, out=store.location)
    export = result_of(told(PRETRAIN, undisturbed))["export"]
    assert result_of(told(PRETRAIN, setup))["export"] == export
    job = replace(FINETUNE, init=export)
    whole = told(job, undisturbed)
    assert _run_until_killed(store, job.attempt, export, epoch=1) == -signal.SIGKILL
    assert _run_until_killed(store, 2, export, epoch=2) == -signal.SIGKILL
    rest = told(replace(job, attempt=3), setup)
    assert rest[0].resumed_epoch == 2
    assert epochs_of(rest) == epochs_of(whole)
    assert result_of(rest)["metrics"] == result_of(whole)["metrics"]
    local = open_store(tmp_path)
    assert store.read(predictions_name(1)) == local.read(predictions_name(1))
    with store.open(predictions_name(1)) as file:
        assert pq.read_table(file).num_rows > 0
    with store.open(details_name(1)) as file, np.load(file) as arrays:
        assert arrays.files
    assert _steps(store, tmp_path / "downloaded") == [1, 2, 3]


def _run_until_killed(store: Store, attempt: int, export: str, *, epoch: int) -> int:
    script = """
import os, signal, sys
from dataclasses import replace
from study.trial import run_trial
from tests.study.trials import FINETUNE, make_setup
out, attempt, export, epoch = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
def die(news):
    if epoch in news.epochs:
        os.kill(os.getpid(), signal.SIGKILL)
run_trial(replace(FINETUNE, init=export, attempt=attempt), make_setup(out), die)
"""
    command = [sys.executable, "-c", script, store.location, str(attempt), export, str(epoch)]
    return subprocess.run(command, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode


def _steps(store: Store, folder: Path) -> list[int]:
    folder.mkdir()
    for name in store.names(curves_folder(FINETUNE.trial)):
        (folder / name).write_bytes(store.read(f"{curves_folder(FINETUNE.trial)}/{name}"))
    return [event.step for event in EventAccumulator(str(folder)).Reload().Scalars("loss/total")]


@pytest.mark.situation(
    "storage",
    "the object store hangs for some seconds in the middle of a trial",
    "the worker keeps asking, and the trial goes on as if nothing had been",
)
def test_a_trial_outlasts_a_server_that_hangs_for_a_while(s3: Server, store: Store) -> None:
    setup = make_setup(store.location)
    news: list[News] = []

    def hang_after_first(item: News) -> None:
        news.append(item)
        if 1 in item.epochs:
            s3.hang()
            threading.Timer(8.0, s3.go_on).start()

    run_trial(PRETRAIN, setup, hang_after_first)
    assert result_of(news)["export"]
    assert news[-1].result["last_lap"]["wall_s"] >= 0  # type: ignore[index]


@pytest.mark.situation(
    "storage",
    "the object store is gone for good in the middle of a trial",
    "after about a minute the attempt fails for the storage's sake, and says what to check",
)
def test_a_trial_gives_up_a_server_that_is_gone(tmp_path: Path) -> None:
    news: list[News] = []
    with running_server() as server:

        def stop_after_first(item: News) -> None:
            news.append(item)
            if 1 in item.epochs:
                server.stop()

        started_s = time.monotonic()
        run_trial(PRETRAIN, make_setup(server.uri("study")), stop_after_first)
    assert news[-1].kind == "storage"
    assert "it does not answer: check the address" in str(news[-1].failure)
    assert time.monotonic() - started_s < 120


def test_a_study_is_analysed_where_it_lies(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    write_study(store.location, {"cont": [1.0, 2.0, 3.0], "+LCS": [2.0, 3.5, 4.0]})
    assert read_manifest(store)["schema_version"] == SCHEMA_VERSION
    assert analyse([store.location]) == 0
    assert "+LCS" in capsys.readouterr().out
    assert {"ablation.csv", "ablation.md"} <= set(store.names(""))
