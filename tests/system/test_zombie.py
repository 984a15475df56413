"""A worker that was given up and wakes up again, as a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from tests.study.trials import FINETUNE, PRETRAIN, make_setup, result_of, told

_WORKER = """
import sys, time
from dataclasses import replace
from study.checkpoints import Fenced
from study.trial import run_trial
from tests.study.trials import FINETUNE, make_setup
out, export, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
def report(news):
    for epoch in news.epochs:
        print(epoch, flush=True)
    if last in news.epochs:
        time.sleep(1)
    if news.result or news.failure:
        print(news, flush=True)
try:
    run_trial(replace(FINETUNE, init=export), make_setup(out), report)
except Fenced:
    print("fenced", flush=True)
"""


@contextmanager
def stopped_worker(out: Path, export: str, epoch: int) -> Iterator[subprocess.Popen[str]]:
    """A worker that fell silent right after it had told of an epoch."""
    command = [sys.executable, "-c", _WORKER, str(out), export, str(epoch)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    try:
        assert process.stdout is not None
        while process.stdout.readline().strip() != str(epoch):
            assert process.poll() is None
        process.send_signal(signal.SIGSTOP)
        yield process
    finally:
        process.kill()
        process.wait()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.situation(
    "kill",
    "a machine hangs, its trial is finished elsewhere, and then the machine wakes up",
    "its worker finds that it was replaced, and changes no file of the study",
)
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_worker_that_wakes_up_too_late_changes_nothing(tmp_path: Path, epoch: int) -> None:
    setup = make_setup(tmp_path)
    export = result_of(told(PRETRAIN, setup))["export"]
    with stopped_worker(tmp_path, export, epoch) as zombie:
        news = told(replace(FINETUNE, init=export, attempt=2), setup)
        assert news[0].resumed_epoch == epoch
        assert result_of(news)
        before = contents(tmp_path)
        zombie.send_signal(signal.SIGCONT)
        said, _ = zombie.communicate(timeout=60)
    assert said.splitlines() == ["fenced"]
    assert contents(tmp_path) == before
