"""What a trial that hangs leaves: an end to its process, and the traces of its threads."""

import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from study.job import Job, News, Setup
from study.records import crash_name
from study.store import Store
from study.trial import run_trial
from tests.study.trials import result_of


@pytest.mark.situation(
    "kill",
    "a trial hangs, or takes longer than resources.<stage>.max_hours",
    "its process ends, the traces of all threads are kept, and the trial goes on from its last epoch",
)
def test_a_trial_that_hangs_ends_its_process_and_leaves_its_traces(tmp_path: Path) -> None:
    script = """
import sys, time
from dataclasses import replace
from ftcl.data import load_dataset
from study import trial
from tests.study.trials import PRETRAIN, make_setup, told
setup = make_setup(sys.argv[1], max_seconds=(60.0, 1.0))
told(PRETRAIN, setup)
print("in time", flush=True)
def hang_in_the_loss(*arguments, **named):
    time.sleep(60)
trial.fit = hang_in_the_loss
told(replace(PRETRAIN, run_key="other", attempt=4), replace(setup, max_seconds=(1.0, None)))
"""
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.stdout == "in time\n", done.stderr
    assert done.returncode == 1
    assert time.monotonic() - started_s < 50
    trace = (tmp_path / crash_name(0, 4)).read_text()
    assert trace.startswith("Timeout (0:00:01)!")
    assert "in hang_in_the_loss" in trace
    assert sorted(path.name for path in (tmp_path / "crashes").iterdir()) == ["0-4.txt"]


def test_empty_traces_of_killed_attempts_are_removed(setup: Setup, store: Store, finetune: Job) -> None:
    assert store.local is not None
    folder = (store.local / crash_name(1, 1)).parent
    store.write(crash_name(1, 1), b"")  # what SIGKILL leaves
    store.write(crash_name(1, 2), b"Timeout (0:00:01)!")
    store.write(crash_name(11, 1), b"")  # another trial's, which may be running
    seen: list[str] = []
    limited = replace(setup, max_seconds=(None, 600.0))
    run_trial(
        replace(finetune, attempt=3),
        limited,
        lambda news: seen.extend(path.name for path in folder.iterdir()),
    )
    assert set(seen) == {"1-2.txt", "1-3.txt", "11-1.txt"}
    assert sorted(path.name for path in folder.iterdir()) == ["1-2.txt", "11-1.txt"]


def test_a_trace_that_somebody_deleted_is_no_error(setup: Setup, store: Store, finetune: Job) -> None:
    limited = replace(setup, max_seconds=(None, 600.0))
    news: list[News] = []

    def tidy(item: News) -> None:
        news.append(item)
        store.delete_folder("crashes")

    run_trial(finetune, limited, tidy)
    assert result_of(news)
