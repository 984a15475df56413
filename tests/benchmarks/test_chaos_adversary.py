"""What the adversary of `make chaos` plans and does, without a study."""

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from benchmarks.chaos.adversary import plan_strikes, share_out
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.strikes import KILLS, STRIKES, damaged
from benchmarks.chaos.watch import LEDGER, newest_running_checkpoint, read_held


@pytest.mark.parametrize("kills", [9, 10, 50])
def test_plan_has_every_kind_spread_over_the_study(kills: int):
    plan = plan_strikes(kills, 0, full_disk=True)
    assert {strike.kind for strike in plan} == set(STRIKES)
    assert sum(strike.kind in KILLS for strike in plan) == kills
    places = [strike.at for strike in plan]
    assert places == sorted(places)
    assert places[0] < 1 / len(plan)
    assert 0.6 < places[-1] < 0.75


def test_plan_depends_on_its_seed_alone():
    assert plan_strikes(50, 7, full_disk=True) == plan_strikes(50, 7, full_disk=True)
    assert plan_strikes(50, 7, full_disk=True) != plan_strikes(50, 8, full_disk=True)


def test_full_disk_is_planned_only_where_it_is_possible():
    assert "full disk" not in {strike.kind for strike in plan_strikes(50, 0, full_disk=False)}


def test_kinds_are_shared_out_by_weight():
    assert Counter(share_out(10, {"a": 6, "b": 3, "c": 1})) == {"a": 6, "b": 3, "c": 1}
    assert share_out(2, {"a": 6, "b": 3, "c": 1}) == ["a", "b"]
    assert share_out(0, {"a": 6}) == []


@pytest.mark.parametrize("seed", range(20))
def test_damage_changes_a_file(seed: int):
    content = bytes(range(256))
    changed, how = damaged(content, random.Random(seed))
    assert changed != content
    assert len(changed) == 256 or how.startswith(f"cut to {len(changed)} ")


def test_processes_of_a_cluster_are_found_and_killed_by_their_mark(tmp_path: Path):
    cluster, other = Cluster(tmp_path), Cluster(tmp_path)
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    processes = {}
    for name, owner, part in (
        ("mine", cluster, "node1"),
        ("sibling", cluster, "node2"),
        ("other", other, "node1"),
    ):
        environment = owner.environment(part)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()  # it has started
        processes[name] = process
    try:
        assert cluster.processes("node1") == [processes["mine"].pid]
        assert sorted(cluster.processes()) == sorted(processes[name].pid for name in ("mine", "sibling"))
        assert cluster.workers() == []
        assert cluster.raylet("node1") is None
        assert cluster.kill("node1") == 1
        assert processes["mine"].wait(10) == -9
        assert processes["sibling"].poll() is None
        assert processes["other"].poll() is None
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def test_ledger_is_read_beside_its_writer(tmp_path: Path):
    assert read_held(tmp_path).epochs == 0
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / LEDGER)))
    study = optuna.create_study(study_name="0123/trials", storage=storage)
    running, ended = study.ask(), study.ask()
    running.set_user_attr("epoch/1", "0 [1.0]")
    running.set_user_attr("epoch/2", "0 [1.0]")
    ended.set_user_attr("epoch/1", "0 [1.0]")
    study.tell(ended, 1.0)
    held = read_held(tmp_path)
    assert (held.epochs, held.running) == (3, {0: 2})
    assert held.states == {"COMPLETE": 1, "RUNNING": 1}

    with (tmp_path / LEDGER).open("ab") as journal:
        journal.write(b'{"op_code": 8, "wor')
    assert read_held(tmp_path) == held


def test_newest_checkpoint_is_one_of_a_running_trial(tmp_path: Path):
    storage = optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / LEDGER)))
    study = optuna.create_study(study_name="0123/trials", storage=storage)
    study.ask()
    study.tell(study.ask(), 1.0)
    assert newest_running_checkpoint(tmp_path) is None
    for trial, key in enumerate(("aaaa", "bbbb")):
        curves, checkpoints = tmp_path / "tensorboard" / str(trial), tmp_path / "checkpoints" / key
        for folder in (curves, checkpoints):
            folder.mkdir(parents=True)
        (curves / f"events.out.tfevents.1.host.2.0.{key}.0001").touch()
        (checkpoints / "0001.begun").touch()
        for epoch in (1, 2):
            path = checkpoints / f"0001-{epoch:06}-{'0' * 16}.pt"
            path.touch()
            os.utime(path, (0, epoch + 10 * trial))
    assert newest_running_checkpoint(tmp_path) == tmp_path / "checkpoints/aaaa" / f"0001-000002-{'0' * 16}.pt"

    (tmp_path / "checkpoints/aaaa" / f"0001-000001-{'0' * 16}.pt").unlink()
    assert newest_running_checkpoint(tmp_path) is None  # it has none to fall back on
