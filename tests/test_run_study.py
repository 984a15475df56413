"""The command as its users run it: a real Ray, real training on a tiny data set, real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from study.job import Job, News, Setup
from study.ledger import FILE_NAME
from study.records import read_manifest
from study.trial import run_trial
from tests.study.pretended import SPACE

ROOT = Path(__file__).resolve().parents[1]

# One Ray cluster at a time, whatever runs the tests in parallel.
ray_cluster = pytest.mark.xdist_group("ray")


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., list[str]]:
    """Return a function that makes the command line of a study small enough for a test."""
    space = tmp_path / "small.yaml"
    space.write_text(yaml.safe_dump(SPACE, sort_keys=False))

    def make(*more: str, out: str = "out") -> list[str]:
        study = ["--space", str(space), "--out", str(tmp_path / out), "--concurrency", "2"]
        return [sys.executable, str(ROOT / "run_study.py"), *study, *more]

    return make


def run(command: list[str], timeout: float = 150) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, cwd=Path(command[5]).parent
    )


def start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=Path(command[5]).parent
    )


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str], timeout_s: float = 90) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the study did not get there in time"
        time.sleep(0.05)


def count_ended(out: Path) -> int:
    """Count the ends in the journal without opening it as a second writer."""
    journal = out / FILE_NAME
    return journal.read_bytes().count(b'"end"') if journal.exists() else 0


def trials(out: Path) -> pd.DataFrame:
    return pq.read_table(out / "trials.parquet").to_pandas()


def check_complete(out: Path) -> pd.DataFrame:
    """Every cell of the design is there exactly once, and pretraining was shared."""
    found = trials(out)
    assert set(found.status) <= {"complete", "stopped"}
    cells = found[["phase", "stage", "arm", "proposal", "seed", "pretrain_key"]].astype(str)
    assert not cells.duplicated().any()
    finetunes = found[found.stage == "finetune"]
    assert finetunes.groupby("phase").size().to_dict() == {"search": 12, "confirm": 4, "ablation": 6}
    assert (found.stage == "pretrain").sum() == finetunes.pretrain_key.nunique() == 6
    return found


@ray_cluster
def test_study_runs_to_its_table_and_shows_it_again(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    done = run(command())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    for words in ("cont", "FSD+LCS", "acmnet", "random windows", "oracle-label windows", "training seeds"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout

    out = tmp_path / "out"
    found = check_complete(out)
    for name in ("manifest.json", "epochs.parquet", "ground_truth.json", "ablation.md", "ablation.csv"):
        assert (out / name).is_file()
    for trial in found[(found.phase == "ablation") & (found.stage == "finetune")].trial:
        assert (out / "predictions" / f"{trial}.parquet").is_file()
        assert (out / "details" / f"{trial}.npz").is_file()
        assert list((out / "tensorboard" / str(trial)).glob("events.*"))
    assert not list(out.glob("**/*.tmp"))
    arms = pd.read_csv(out / "ablation.csv")
    assert set(arms[arms.arm == "FSD+LCS"].n) == {2}

    started_s = time.monotonic()
    again = run(command())
    assert again.returncode == 0
    assert time.monotonic() - started_s < 15
    # The first line says how long the launch took.
    assert again.stdout.partition("\n\n")[2] in done.stdout

    (out / "trials.parquet").unlink()
    (out / "ablation.md").unlink()
    assert run(command()).returncode == 0
    pd.testing.assert_frame_equal(trials(out), found)
    assert (out / "ablation.md").is_file()

    check_reproducible(out, found)


@ray_cluster
def test_interrupted_study_says_how_to_continue_and_does(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(command())
    wait_until(lambda: count_ended(out) >= 5, process)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "continues the study" in output
    assert "Traceback" not in output
    assert 5 <= len(trials(out)) < 28

    done = run(command())
    assert done.returncode == 0, done.stdout + done.stderr
    check_complete(out)


@ray_cluster
def test_killed_driver_loses_and_repeats_nothing(command: Callable[..., list[str]], tmp_path: Path) -> None:
    """Deterministic, so that the killed study must end with the very numbers of one that was left alone."""
    out = tmp_path / "killed"
    for kills in (3, 12):
        process = start(command("--deterministic", out="killed"))
        wait_until(lambda kills=kills: count_ended(out) >= kills, process)  # type: ignore[misc]
        kill_tree(process.pid)
        process.wait(timeout=30)
    done = run(command("--deterministic", out="killed"))
    assert done.returncode == 0, done.stdout + done.stderr
    check_complete(out)

    left_alone = run(command("--deterministic", "--concurrency", "1", out="whole"))
    assert left_alone.returncode == 0, left_alone.stdout + left_alone.stderr
    assert (out / "ablation.csv").read_text() == (tmp_path / "whole" / "ablation.csv").read_text()


@ray_cluster
def test_killed_worker_is_replaced_and_its_trial_goes_on(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(command())
    wait_until(lambda: count_ended(out) >= 4, process)
    workers = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "ImplicitFunc" in " ".join(child.cmdline())
    ]
    assert workers
    workers[0].kill()
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    check_complete(out)


@ray_cluster
def test_more_gpus_than_the_cluster_has_are_refused(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    done = run(command("--gpus-per-trial", "7"))
    assert done.returncode == 2
    assert "asks for 7 GPU" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--space", "fsd_lsc"], "did you mean fsd_lcs"),
        (["--space", "fsd_lcs", "--data", "acm:/nowhere"], "/nowhere"),
        (["--space", "fsd_lcs", "--data", "wacht"], "watch"),
        (["--space", "fsd_lcs", "--fold", "12"], "fold"),
        (["--space", "fsd_lcs", "--trials", "0"], "whole number of at least 1"),
        (["--space", "fsd_lcs", "--out", "/proc/study"], "cannot write"),
        (["--space", "fsd_lcs", "--resume", "require"], "no study to continue"),
        (["--space"], "expected one argument"),
        ([], "--space --list"),
    ],
)
def test_wrong_usage_is_one_clear_error(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "run_study.py"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_list_and_dry_run_start_nothing(tmp_path: Path) -> None:
    def ask(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(ROOT / "run_study.py"), *arguments],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
        )
        return done.stdout

    assert "fsd_lcs" in ask("--list")
    text = ask("--space", "fsd_lcs", "--data", "synthetic", "--dry-run")
    assert "13  pretrainings" in text
    assert "64  ablation trials" in text
    assert list(tmp_path.iterdir()) == []


def check_reproducible(out: Path, found: pd.DataFrame) -> None:
    """A trial run again from its record, here and without Ray, gives the numbers of the record."""
    manifest = read_manifest(out)
    row = found[found.arm == "FSD+LCS"].iloc[0]
    parameters = {
        name.removeprefix("param/"): value
        for name, value in row.items()
        if str(name).startswith("param/") and pd.notna(value)
    }
    setup = Setup(
        out=out,
        recipe=manifest["space"]["recipe"],
        data=manifest["data"]["spec"],
        fold=manifest["data"]["fold"],
        data_seed=manifest["data"]["seed"],
        fingerprint=manifest["data"]["fingerprint"],
        protocol=manifest["protocol"],
        metric=manifest["headline"],
        deterministic=manifest["deterministic"],
        detail_videos=(),
        num_threads=1,
        gpus=(0.0, 0.0),
    )
    job = Job(9999, 1, int(row.seed), parameters, row.pretrain_key, None, test=True)
    news: list[News] = []
    run_trial(job, setup, news.append)
    result: Any = news[-1].result
    assert result["chosen_epoch"] == row.chosen_epoch
    assert result["metrics"] == {name: row[name] for name in result["metrics"]}


def kill_tree(pid: int) -> None:
    """Kill a driver and everything that it started, as a power cut would."""
    family: list[Any] = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
