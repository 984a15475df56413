"""Nodes that go, memory that runs out: scripted trials on real clusters, with token authentication."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.job import News
from tests.study.tune.scripted import LoadableElsewhere, ScriptedAgenda, make_job, make_setup, play


@pytest.fixture
def cluster(ray_environment: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head and one other node, of one slot each."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    try:
        yield made
    finally:
        made.shutdown()


def run(agenda: Any, out: Path, address: str | None, cpus: float = 1, trial: Any = play) -> None:
    from study.spec import Resources
    from study.stopping import Stops
    from study.tune.cluster import connect
    from study.tune.run import run_agenda

    held = {"stage": Resources(cpus=1)}
    with connect(address, local_cpus=cpus), Stops(agenda) as stops:
        run_agenda(agenda, make_setup(str(out)), held, ["stage"], 2, stops=stops, run=trial)


def raylet(node: Any) -> psutil.Process:
    return psutil.Process(node.all_processes["raylet"][0].process.pid)


class Watched(ScriptedAgenda):
    """Calls a function, in a thread of its own, when trials have begun on two nodes."""

    on_both: Callable[[], None]

    def take(self, news: News) -> bool:
        stops = super().take(news)
        if len({taken.node for taken in self.taken}) == 2 and not self.threads:
            self.threads.append(threading.Thread(target=self.on_both))
            self.threads[0].start()
        return stops

    @property
    def threads(self) -> list[threading.Thread]:
        return self.__dict__.setdefault("_threads", [])


@pytest.mark.situation(
    "kill",
    "the raylet of a node is killed with SIGKILL, or the node loses its power",
    "its trials go on elsewhere from their last epochs; the attempts are on record as node_lost",
)
def test_trials_of_a_lost_node_go_on_elsewhere(cluster: Any, tmp_path: Path) -> None:
    [other] = cluster.worker_nodes
    agenda = Watched([make_job(trial, epochs=8, epoch_s=0.5) for trial in range(4)])
    agenda.on_both = lambda: raylet(other).kill()
    run(agenda, tmp_path, cluster.address)
    assert sorted(news.trial for news in agenda.taken if news.result is not None) == [0, 1, 2, 3]
    [(trial, attempt, kind, message, node)] = agenda.deaths
    assert (attempt, kind, node) == (1, "node_lost", other.node_id)
    assert "was lost: terminated unexpectedly: health check failed" in message
    last = [news for news in agenda.taken if news.trial == trial][-1]
    assert last.attempt == 2 and last.node == cluster.head_node.node_id


def drain(node: Any) -> None:
    """Announce, as a cloud's notice does, that a node goes in half a minute."""
    from ray._private import worker
    from ray.core.generated import autoscaler_pb2

    reason = autoscaler_pb2.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    deadline_ms = int((time.time() + 30) * 1000)
    accepted, why = worker.global_worker.gcs_client.drain_node(node.node_id, reason, "a test", deadline_ms)
    assert accepted, why


@pytest.mark.situation(
    "kill",
    "a cloud announces that it takes a spot machine back, and takes it",
    "no trial starts there any more; what runs until the end goes on elsewhere, on record as preempted",
)
def test_node_that_is_to_go_gets_no_trial(cluster: Any, tmp_path: Path) -> None:
    [other] = cluster.worker_nodes
    begun: dict[tuple[int, int], tuple[float, str | None]] = {}
    drained_at_s: list[float] = []

    class Noting(Watched):
        def take(self, news: News) -> bool:
            begun.setdefault((news.trial, news.attempt), (time.monotonic(), news.node))
            return super().take(news)

    def take_back() -> None:
        drain(other)
        drained_at_s.append(time.monotonic())
        time.sleep(6)
        raylet(other).kill()

    short = [make_job(trial, epochs=3, epoch_s=0.5) for trial in range(6)]
    agenda = Noting([make_job(6, epochs=24, epoch_s=0.5), make_job(7, epochs=24, epoch_s=0.5), *short])
    agenda.on_both = take_back
    run(agenda, tmp_path, cluster.address)
    assert sorted(news.trial for news in agenda.taken if news.result is not None) == list(range(8))
    [(_, attempt, kind, message, node)] = agenda.deaths
    assert (attempt, kind, node) == (1, "preempted", other.node_id)
    assert "was taken back, as announced" in message
    late = [node for at_s, node in begun.values() if at_s > drained_at_s[0] + 1]
    assert late and set(late) == {cluster.head_node.node_id}


@pytest.mark.situation(
    "kill",
    "a node that is to go has a worker that is free for the next trial",
    "that worker ends too, and the trial starts elsewhere",
)
def test_worker_of_a_node_that_is_to_go_takes_no_further_trial(cluster: Any, tmp_path: Path) -> None:
    [other] = cluster.worker_nodes
    agenda = Watched([make_job(trial, epochs=4, epoch_s=0.5) for trial in range(8)])
    agenda.on_both = lambda: drain(other)
    run(agenda, tmp_path, cluster.address)
    assert sorted(news.trial for news in agenda.taken if news.result is not None) == list(range(8))
    there = {news.trial for news in agenda.taken if news.node == other.node_id and news.result is not None}
    assert len(there) == 1  # the one that ran already
    assert {kind for _, _, kind, _, _ in agenda.deaths} <= {"preempted"}
    assert len(agenda.deaths) <= 1


def test_trial_keeps_away_from_where_it_died(cluster: Any, tmp_path: Path) -> None:
    agenda = ScriptedAgenda([make_job(0, does="kill", attempts=1)], avoided=True)
    run(agenda, tmp_path, cluster.address)
    [(_, _, kind, _, died_on)] = agenda.deaths
    [ended] = [news for news in agenda.taken if news.result is not None]
    assert kind == "worker_killed" and died_on is not None
    assert ended.attempt == 2 and ended.node != died_on


@pytest.mark.situation(
    "environment",
    "no worker can start on one machine of the cluster (a package is missing there) while others train",
    "after two such starts the machine is unfit, and no trial goes there; the study goes on",
)
def test_machine_that_starts_no_worker_is_left_aside(cluster: Any, tmp_path: Path) -> None:
    cluster.remove_node(cluster.worker_nodes.copy().pop())
    broken = cluster.add_node(num_cpus=1, env_vars={"BROKEN": "1"})
    cluster.wait_for_nodes()
    agenda = ScriptedAgenda([make_job(trial, epochs=6, epoch_s=0.5) for trial in range(4)], avoided=True)
    run(agenda, tmp_path, cluster.address, trial=LoadableElsewhere())
    ended = [news for news in agenda.taken if news.result is not None]
    assert sorted(news.trial for news in ended) == [0, 1, 2, 3]
    assert {news.node for news in ended} == {cluster.head_node.node_id}
    kinds = [kind for _, _, kind, _, _ in agenda.deaths]
    assert kinds and set(kinds[1:]) <= {"node_unfit"}
    assert {node for *_, node in agenda.deaths} == {broken.node_id}
    assert all("No module named 'seglearn'" in message for _, _, _, message, _ in agenda.deaths)


def test_trial_whose_last_other_node_is_lost_does_not_wait_for_ever(cluster: Any, tmp_path: Path) -> None:
    [other] = cluster.worker_nodes
    head = cluster.head_node.node_id
    first = make_job(0, epochs=40, epoch_s=0.5)
    picky = make_job(1)

    class Occupied(ScriptedAgenda):
        """Hands out the picky trial when the only node that it accepts is busy, and then loses that node."""

        def next_job(self) -> Any:
            busy = {news.node for news in self.taken}
            if self.jobs and self.jobs[0].trial == 1 and self.jobs[0].attempt == 1:
                if not busy:
                    return None
                [node] = busy
                from dataclasses import replace

                self.jobs[0] = replace(self.jobs[0], avoid=tuple({head, other.node_id} - {node}))
                if node == other.node_id:
                    threading.Timer(4, raylet(other).kill).start()
            return super().next_job()

    agenda = Occupied([first, picky])
    started_s = time.monotonic()
    run(agenda, tmp_path, cluster.address)
    assert time.monotonic() - started_s < 90
    assert sorted(news.trial for news in agenda.taken if news.result is not None) == [0, 1]


@pytest.mark.situation(
    "environment",
    "a trial fills the memory of its host",
    "Ray ends its worker before the system does; its trial goes on, elsewhere if it can",
)
def test_worker_that_fills_the_memory_is_ended(ray_environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    memory = psutil.virtual_memory()
    limit = (memory.total - memory.available + 3e9) / memory.total
    if limit > 0.9:
        pytest.fail("this test needs 4 GB of free memory")
    ray_environment.setenv("RAY_memory_usage_threshold", f"{limit:.3f}")
    agenda = ScriptedAgenda([make_job(0, does="allocate"), make_job(1, epochs=30, epoch_s=0.5)])
    run(agenda, tmp_path, None, cpus=2)
    assert {kind for _, _, kind, _, _ in agenda.deaths} == {"host_memory"}, agenda.deaths
    assert (0, 1) in {(trial, attempt) for trial, attempt, *_ in agenda.deaths}
    assert all("ran out of memory (" in message for _, _, _, message, _ in agenda.deaths)
    assert sorted(news.trial for news in agenda.taken if news.result is not None) == [0, 1]


@pytest.mark.situation(
    "kill",
    "the only node of a study is lost while its driver lives on",
    "the study ends within seconds and says so; the same command continues",
)
def test_study_ends_in_words_when_no_node_is_left(
    ray_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from study.phases import StudyError

    def kill_raylet() -> None:
        for child in psutil.Process().children(recursive=True):
            if child.name() == "raylet":
                os.kill(child.pid, signal.SIGKILL)

    agenda = ScriptedAgenda([make_job(trial, epochs=100, epoch_s=0.5) for trial in range(2)])
    threading.Timer(12, kill_raylet).start()
    with pytest.raises(StudyError, match="no node of the Ray cluster is left"):
        run(agenda, tmp_path, None, cpus=2)
