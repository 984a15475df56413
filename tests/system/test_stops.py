"""A study that is told to end, by the machine or by its budget: as `test_run_study`, with more launches."""

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.study.tune.workers import workers_of
from tests.test_run_study import check_complete, check_stopped, command, count_ended, run, start
from tests.test_run_study import wait_until as wait_for

__all__ = ["command"]  # a fixture


@pytest.mark.situation(
    "kill",
    "SIGTERM, as of a machine that is taken away, or the end of --time-budget",
    "running trials stop after their epoch, and 25 s later at the latest; the same command continues",
)
def test_study_that_is_told_to_end_leaves_nothing_running_and_continues(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    check_stopped(start(command("--time-budget", "6s")), out, 3, "time budget of 6 s is used up")

    process = start(command())
    before = count_ended(out)
    wait_for(lambda: count_ended(out) > before, process)
    for worker in workers_of(process.pid):
        worker.suspend()  # an epoch without an end
    process.send_signal(signal.SIGTERM)
    check_stopped(process, out, 143, "told to end by SIGTERM", within_s=35)

    done = run(command())
    assert done.returncode == 0, done.stdout + done.stderr
    check_complete(out)
