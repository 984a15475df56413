"""A trial, and a whole study, on a disk that fills: a small tmpfs, which only root may mount."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from study.job import News
from study.store import open_store
from study.trial import run_trial
from tests.study.pretended import SPACE
from tests.study.trials import FINETUNE, PRETRAIN, epochs_of, make_setup, result_of, told


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of 1 MB, or of as many as the test's parameter says."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = f"size={getattr(request, 'param', 1)}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.situation(
    "storage",
    "the disk is full when a trial writes a checkpoint",
    "the study stops cleanly and says how much is needed; the trial goes on from the checkpoint before",
)
def test_a_checkpoint_that_does_not_fit_leaves_the_one_before(small_disk: Path, tmp_path: Path) -> None:
    setup, elsewhere = make_setup(small_disk / "out"), make_setup(tmp_path / "elsewhere")
    job = replace(FINETUNE, init=result_of(told(PRETRAIN, setup))["export"])
    told(PRETRAIN, elsewhere)
    ballast = small_disk / "ballast"

    news: list[News] = []

    def fill_after_second(item: News) -> None:
        news.append(item)
        if 2 in item.epochs:
            free = open_store(small_disk).free_bytes() or 0
            ballast.write_bytes(bytes(free - 40_000))

    run_trial(job, setup, fill_after_second)
    assert news[-1].kind == "disk_full"
    message = news[-1].failure or ""
    assert "No space left on device: 0.1 MB are needed, 0.0 MB are free" in message
    assert str(small_disk / "out" / "checkpoints" / "finetune" / "0001-000003") in message
    assert not list(small_disk.rglob("*.tmp"))

    ballast.unlink()
    rest = told(replace(job, attempt=2), setup)
    assert rest[0].resumed_epoch == 2
    assert epochs_of(rest) == epochs_of(told(job, elsewhere))


@pytest.mark.situation(
    "storage",
    "the disk is full when the driver writes the ledger",
    "the study stops at once and says how much the rest needs; nothing is left running",
)
@pytest.mark.parametrize("small_disk", [64], indirect=True)
def test_study_on_a_full_disk_stops_in_words_and_continues(small_disk: Path, tmp_path: Path) -> None:
    space = tmp_path / "small.yaml"
    space.write_text(yaml.safe_dump(SPACE, sort_keys=False))
    out, filler = small_disk / "out", small_disk / "filler"
    script = Path(__file__).resolve().parents[2] / "run_study.py"
    command = [sys.executable, str(script), "--space", str(space), "--out", str(out), "--concurrency", "2"]

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    journal, deadline = out / "ledger.journal", time.monotonic() + 120
    while not (journal.exists() and journal.read_bytes().count(b'"end"') >= 4):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    fill(filler)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert f"the disk of {out} is full" in output
    assert "trials that are left need about" in output
    assert "the same command continues the study" in output
    assert "Traceback" not in output
    found = pq.read_table(out / "trials.parquet").to_pandas()
    assert "waiting" in set(found.status) <= {"complete", "stopped", "waiting"}

    filler.unlink()
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = pq.read_table(out / "trials.parquet").to_pandas()
    assert set(found.status) <= {"complete", "stopped"}
    cells = found[["phase", "stage", "arm", "proposal", "seed", "pretrain_key"]].astype(str)
    assert not cells.duplicated().any()


def fill(path: Path) -> None:
    """Write a file until there is no room at all."""
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(max(4096, shutil.disk_usage(path).free // 2)))
        except OSError:
            return
