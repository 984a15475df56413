"""A study on a cluster without nodes, which come when it asks for them and go when it is done."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

from study.records import read_manifest
from study.store import open_store
from tests.study.pretended import SPACE
from tests.study.small_study import SMALL
from tests.system.autoscaling import AutoscalingCluster

ROOT = Path(__file__).parents[2]
_UP_AND_DONE_S, _DOWN_S = 200.0, 60.0

STUDY = {
    **SPACE,
    **SMALL,
    "ablation": {"seeds": 1, "baseline": "full", "arms": {"full": {}, "other": {"finetune.lambda_lcs": 0.0}}},
    "resources": {"pretrain": {"cpus": 1, "gpus": 1}, "finetune": {"cpus": 1, "gpus": 0.5}},
}


@pytest.fixture
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AutoscalingCluster]:
    """A head, and up to two nodes with two CPUs and a GPU each."""
    gpu = {"resources": {"CPU": 2, "GPU": 1, "object_store_memory": 80_000_000}, "max_workers": 2}
    made = AutoscalingCluster(tmp_path_factory.mktemp("r"), {"gpu": gpu}, max_workers=2, idle_s=5)
    try:
        made.start()
        yield made
    finally:
        made.kill()


def nodes_of(cluster: AutoscalingCluster) -> int:
    """How many nodes there are beside the head."""
    commands = []
    for pid in cluster.processes():
        try:
            commands.append(" ".join(psutil.Process(pid).cmdline()[:1]))
        except psutil.Error:
            continue
    return sum(command.endswith("raylet/raylet") for command in commands) - 1


def launch(cluster: AutoscalingCluster, folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    space = folder / "small.yaml"
    space.write_text(yaml.safe_dump(STUDY, sort_keys=False))
    command = [
        sys.executable,
        str(ROOT / "run_study.py"),
        "--space",
        str(space),
        "--out",
        str(folder / "out"),
    ]
    return subprocess.Popen(
        [*command, "--address", cluster.address, *arguments],
        env=cluster.environment("driver"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.situation(
    "environment",
    "a cluster has no nodes for trials yet, but starts them on demand",
    "the study asks for as many as its trials fill, waits for them, and lets them go when it is done",
)
def test_nodes_come_for_a_study_and_go_after_it(cluster: AutoscalingCluster, tmp_path: Path) -> None:
    started_s = time.monotonic()
    refused = launch(cluster, tmp_path, "--gpus-per-trial", "2")
    told = refused.communicate(timeout=60)[0]
    assert refused.returncode == 2, told
    assert "asks for 1 CPU and 2 GPU" in told and "2 gpu (2 CPU and 1 GPU)" in told
    assert time.monotonic() - started_s < 20
    assert not (tmp_path / "out").exists()
    assert nodes_of(cluster) == 0

    measured = launch(cluster, tmp_path, "--gpus-per-trial", "auto")
    told = measured.communicate(timeout=120)[0]
    assert measured.returncode == 2, told
    assert "measuring on a GPU" in told and "offers a GPU, but torch finds none" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()

    study = launch(cluster, tmp_path)
    most, deadline = 0, time.monotonic() + _UP_AND_DONE_S
    while study.poll() is None and time.monotonic() < deadline:
        most = max(most, nodes_of(cluster))
        time.sleep(0.5)
    study.kill()
    told = study.communicate()[0]
    assert study.returncode == 0, told
    assert most == 2
    trials = pq.read_table(tmp_path / "out" / "trials.parquet").to_pandas()
    assert set(trials[trials.phase != "context"].status) == {"complete"}
    # Their time is that of GPUs, as if these nodes had any.
    assert trials[trials.stage == "finetune"].gpu_s.sum() > 0
    assert read_manifest(open_store(tmp_path / "out"))["finished"]

    deadline = time.monotonic() + _DOWN_S
    while nodes_of(cluster) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert nodes_of(cluster) == 0
