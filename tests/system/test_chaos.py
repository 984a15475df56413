"""A short version of `make chaos`: one of every strike on a real cluster."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.xdist_group("ray")
@pytest.mark.timeout(900)
@pytest.mark.situation(
    "kill",
    "workers, nodes, the driver and all of them at once are killed at any moment, again and again",
    "the same command continues; the finished study is bit for bit that of an undisturbed run",
)
def test_struck_study_ends_as_an_undisturbed_one(tmp_path: Path):
    command = [sys.executable, "-m", "benchmarks.chaos", "--kills", "9", "--seed", "1"]
    command += ["--trials", "4", "--seeds", "2", "--minutes", "12", "--out", str(tmp_path / "chaos")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=840, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "chaos" / "report.json").read_text())
    assert report["violations"] == 0
    # 9 kinds of kills, a frozen worker and, where mounting is allowed, a full disk.
    assert len(report["strikes"]) == 11 - len(report["left_out"])
