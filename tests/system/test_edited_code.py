"""A study whose own code is edited while it runs."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from study.records import read_manifest
from study.store import open_store
from tests.study.pretended import SPACE
from tests.study.small_study import SMALL
from tests.study.tune.workers import workers_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the code that may be edited."""
    for name in ("ftcl", "study", "search_spaces"):
        shutil.copytree(ROOT / name, tmp_path / "code" / name)
    shutil.copy(ROOT / "run_study.py", tmp_path / "code")
    return tmp_path / "code"


def launch(checkout: Path) -> "subprocess.Popen[str]":
    space = checkout.parent / "small.yaml"
    fixed = {"pretrain.epochs": 2, "finetune.epochs": 60}
    space.write_text(yaml.safe_dump({**SPACE, **SMALL, "fixed": fixed}, sort_keys=False))
    command = [sys.executable, str(checkout / "run_study.py"), "--space", str(space), "--concurrency", "1"]
    return subprocess.Popen(
        [*command, "--out", str(checkout.parent / "out")],
        cwd=checkout.parent,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.situation(
    "environment",
    "the study's own code is edited while it runs, and a worker starts with the new one",
    "the study stops and names the file, instead of mixing two versions; the same command continues",
)
def test_study_whose_code_is_edited_stops_once_a_worker_starts_with_it(checkout: Path) -> None:
    study = launch(checkout)
    try:
        deadline = time.monotonic() + 120
        while not (workers := workers_of(study.pid)):
            assert study.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        time.sleep(3)
        edited = checkout / "study" / "doctor.py"
        edited.write_text(edited.read_text() + "# edited\n")
        time.sleep(1)
        assert study.poll() is None
        workers[0].kill()
        told = study.communicate(timeout=120)[0]
    finally:
        study.kill()
    assert study.returncode == 1, told
    assert "the code here has changed since this study was launched: study/doctor.py" in told
    assert "the same command continues" in told

    told = launch(checkout).communicate(timeout=300)[0]
    launches = read_manifest(open_store(checkout.parent / "out"))["launches"]
    assert len(launches) == 2 and launches[0]["source"] != launches[1]["source"]
    assert read_manifest(open_store(checkout.parent / "out"))["finished"], told
