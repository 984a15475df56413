"""A trial on a disk that fills: a small tmpfs, which only root may mount."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from study.job import News
from study.store import open_store
from study.trial import run_trial
from tests.study.trials import FINETUNE, PRETRAIN, epochs_of, make_setup, result_of, told


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], check=True)
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
