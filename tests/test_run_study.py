"""The command as its users run it: a real Ray, real training on a tiny data set, real signals."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pyarrow.parquet as pq
import pytest
import yaml

import run_study
from study.ledger_location import FILE_NAME
from tests.study.pretended import SPACE
from tests.study.tune.workers import TRAINS, workers_of

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

    again = run(command())
    assert again.returncode == 0
    assert "writing the report" in done.stdout
    assert "writing the report" not in again.stdout
    # The first line says how long the launch took; what is on record already is not said to be written.
    assert set(again.stdout.partition("\n\n")[2].splitlines()) <= set(done.stdout.splitlines())

    (out / "trials.parquet").unlink()
    (out / "ablation.md").unlink()
    assert run(command()).returncode == 0
    pd.testing.assert_frame_equal(trials(out), found)
    assert (out / "ablation.md").is_file()


@ray_cluster
@pytest.mark.situation(
    "kill",
    "Ctrl-C once",
    "nothing new starts, running trials stop after their epoch; the same command continues",
)
@pytest.mark.situation(
    "kill",
    "Ctrl-C twice",
    "the running epochs are given up within seconds and trained again by the next launch",
)
def test_interrupted_study_leaves_nothing_running_and_continues(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(command())
    wait_until(lambda: count_ended(out) >= 5, process)
    process.send_signal(signal.SIGINT)
    check_stopped(process, out, 130, "interrupted by Ctrl-C")
    assert 5 <= len(trials(out)) < 28

    process = start(command())
    before = count_ended(out)
    wait_until(lambda: count_ended(out) > before, process)
    for worker in workers_of(process.pid):
        worker.suspend()  # an epoch without an end
    process.send_signal(signal.SIGINT)
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    check_stopped(process, out, 130, "interrupted by Ctrl-C")

    done = run(command())
    assert done.returncode == 0, done.stdout + done.stderr
    check_complete(out)
    failures = pq.read_table(out / "failures.parquet").to_pandas()
    assert set(failures.kind) <= {"cancelled"}
    assert len(failures) <= 4


@ray_cluster
@pytest.mark.situation(
    "kill",
    "the driver and everything that it started is killed with SIGKILL",
    "running trials go on from their last epoch; a --deterministic study ends with the very same table",
)
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
@pytest.mark.situation(
    "kill",
    "a worker is killed with SIGKILL in the middle of an epoch",
    "its trial goes on from its last epoch on a new worker; the attempt is on record",
)
def test_killed_worker_is_replaced_and_its_trial_goes_on(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = start(command())
    wait_until(lambda: count_ended(out) >= 4, process)
    wait_until(lambda: kill_one(workers_of(process.pid, TRAINS)), process)
    output, _ = process.communicate(timeout=150)
    assert process.returncode == 0, output
    assert "(raylet)" not in output
    found = check_complete(out)
    failures = pq.read_table(out / "failures.parquet").to_pandas()
    assert list(failures.kind) == ["worker_killed"]
    assert "vanished" in failures.message[0]
    assert failures.action[0] == "retry"
    assert found.attempts.sum() == len(found) + 1


@ray_cluster
@pytest.mark.situation(
    "environment",
    "--gpus-per-trial asks for more GPUs than any node has",
    "refused before the first trial, with the largest node's number",
)
def test_more_gpus_than_the_cluster_has_are_refused(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    done = run(command("--gpus-per-trial", "7"))
    assert done.returncode == 2
    assert "asks for 1 CPU and 7 GPU" in done.stderr
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
        (["docter", "--space", "fsd_lcs"], "unknown command docter; did you mean doctor?"),
        (["fsd_lcs"], "did you mean --space fsd_lcs?"),
        (["--space", "fsd_lcs", "--sedes", "3"], "unknown argument --sedes; did you mean --seeds?"),
        (["--space", "fsd_lcs", "--data_seed=3"], "did you mean --data-seed?"),
        (["reproduce", "out", "--trial", "3", "--ot"], "unknown argument --ot; --help lists all"),
        (["--space", "fsd_lcs", "now"], "unknown argument now; --help lists all"),
        (["mine.yaml"], "did you mean --space mine.yaml?"),
        (["again"], "there are run, reproduce, doctor"),
        (["--space", "temperature", "--trials", "9"], "temperature has no search"),
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


@pytest.mark.parametrize(
    ("variable", "address"),
    [("", None), ("local", None), ("auto", "auto"), ("10.0.0.1:6379", "10.0.0.1:6379")],
)
def test_the_address_of_the_environment_is_read_as_ray_reads_it(
    variable: str, address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert run_study._parser().parse_args(["doctor"]).address == address


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


def kill_one(workers: list[psutil.Process]) -> bool:
    if workers:
        workers[0].kill()
    return workers != []


def check_stopped(
    process: subprocess.Popen[str], out: Path, status: int, reason: str, within_s: float = 60
) -> None:
    """The study ends in time and in words; nothing runs, neither in its records nor on the machine."""
    family: list[psutil.Process] = []
    deadline = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            family += [
                child for child in psutil.Process(process.pid).children(recursive=True) if child not in family
            ]
        time.sleep(0.1)
    output, _ = process.communicate(timeout=1)
    assert process.returncode == status, output
    assert f"{reason}: stopping after the running epochs" in output
    assert f"{reason}; the same command continues the study" in output
    assert "Traceback" not in output
    assert set(trials(out).status) <= {"complete", "stopped", "waiting"}
    _, alive = psutil.wait_procs(family, timeout=5)
    assert alive == []


def kill_tree(pid: int) -> None:
    """Kill a driver and everything that it started, as a power cut would."""
    family: list[Any] = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
