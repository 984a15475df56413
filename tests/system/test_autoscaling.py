"""A study on a cluster without nodes, which come when it asks for them and go when it is done."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
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
    "resources": {"pretrain": {"cpus": 1}, "finetune": {"cpus": 1}},
}

MakeCluster = Callable[..., AutoscalingCluster]


@pytest.fixture
def make_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeCluster]:
    """Return a function that starts a head, and up to two nodes on demand, of which Ray is told so much."""
    made: list[AutoscalingCluster] = []

    def make(name: str, **resources: int) -> AutoscalingCluster:
        kind = {"resources": {**resources, "object_store_memory": 80_000_000}, "max_workers": 2}
        made.append(AutoscalingCluster(tmp_path_factory.mktemp("r"), {name: kind}, max_workers=2, idle_s=5))
        made[-1].start()
        return made[-1]

    try:
        yield make
    finally:
        for cluster in made:
            cluster.kill()


def nodes_of(cluster: AutoscalingCluster) -> int:
    """How many nodes there are beside the head."""
    commands = []
    for pid in cluster.processes():
        try:
            commands.append(" ".join(psutil.Process(pid).cmdline()[:1]))
        except psutil.Error:
            continue
    return sum(command.endswith("raylet/raylet") for command in commands) - 1


def read(folder: Path, table: str) -> pd.DataFrame:
    return pq.read_table(folder / "out" / f"{table}.parquet").to_pandas()


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
def test_nodes_come_for_a_study_and_go_after_it(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster("small", CPU=2)
    started_s = time.monotonic()
    refused = launch(cluster, tmp_path, "--gpus-per-trial", "1")
    told = refused.communicate(timeout=60)[0]
    assert refused.returncode == 2, told
    assert "asks for 1 CPU and 1 GPU" in told and "2 small (2 CPU and 0 GPU)" in told
    assert time.monotonic() - started_s < 20
    assert not (tmp_path / "out").exists()
    assert nodes_of(cluster) == 0

    study = launch(cluster, tmp_path)
    most, deadline = 0, time.monotonic() + _UP_AND_DONE_S
    while study.poll() is None and time.monotonic() < deadline:
        most = max(most, nodes_of(cluster))
        time.sleep(0.5)
    study.kill()
    told = study.communicate()[0]
    assert study.returncode == 0, told
    assert most == 2
    trials = read(tmp_path, "trials")
    assert set(trials[trials.phase != "context"].status) == {"complete"}
    assert read_manifest(open_store(tmp_path / "out"))["finished"]

    deadline = time.monotonic() + _DOWN_S
    while nodes_of(cluster) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert nodes_of(cluster) == 0


@pytest.mark.situation(
    "environment",
    "the machines that a cluster starts have a GPU in Ray's books, and torch finds it on none of them",
    "the study ends and says so for each machine; no trial trains on the CPU in place of a GPU",
)
def test_gpus_that_are_in_the_books_alone_are_not_trained_on(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster("gpu", CPU=2, GPU=1)
    measured = launch(cluster, tmp_path, "--gpus-per-trial", "auto")
    told = measured.communicate(timeout=120)[0]
    assert measured.returncode == 2, told
    assert "measuring on a GPU" in told and "offers a GPU, but torch finds none" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out").exists()

    # One at a time: the study ends with its only search seed, while others might have an attempt left.
    study = launch(cluster, tmp_path, "--gpus-per-trial", "0.5", "--concurrency", "1")
    told = study.communicate(timeout=_UP_AND_DONE_S)[0]
    assert study.returncode == 1, told
    assert "Ray counts a GPU here, torch sees none" in told
    assert set(read(tmp_path, "failures").kind) <= {"node_unfit", "pretrain_failed"}
    trials = read(tmp_path, "trials")
    assert set(trials[trials.phase != "context"].status) == {"failed"}
    assert read(tmp_path, "epochs").empty
