"""What is made of workers that never begin, and of a machine that is unfit, without Ray."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray import cloudpickle
from ray.exceptions import RayActorError

from study.job import News
from study.phases import StudyError
from study.spec import Resources
from study.tune import execution
from study.tune.execution import BEGUN, NEWS, Execution
from tests.study.tune.scripted import ScriptedAgenda, make_job

NODES = ("good", "better", "bad")


class Run:
    """An execution over made-up nodes of four CPUs each."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, nodes: tuple[str, ...] = NODES) -> None:
        alive = [
            {"NodeID": node, "NodeManagerHostname": f"{node}-host", "Resources": {"CPU": 4.0}}
            for node in nodes
        ]
        monkeypatch.setattr(execution, "live_nodes", lambda: alive)
        monkeypatch.setattr(execution, "nodes_that_stay", lambda: alive)
        monkeypatch.setattr(execution, "draining_nodes", lambda: set())
        monkeypatch.setattr(execution, "node_of_actor", lambda actor: actor)
        jobs = [make_job(trial) for trial in range(40)]
        self.agenda = ScriptedAgenda(jobs, attempts_allowed=1)
        stops: Any = None
        self.execution = Execution(self.agenda, stops, 40, [Resources(cpus=1)], [], lambda text: None)
        self._folder = folder
        self._handed = 0

    def start(self) -> str:
        """Hand a trial to a worker that is still to start."""
        name = str(self._handed)
        self._handed += 1
        assert self.execution.next_job(name) is not None
        return name

    def begin(self, name: str, node: str) -> None:
        self.execution.take(name, {BEGUN: {"host": f"{node}-host", "node": node}})

    def fail(self, name: str, node: str | None) -> tuple[str, str, str | None]:
        """Let a worker die; return what the agenda is told: kind, message and node."""
        path = self._folder / name
        text = "exit detail: Traceback ...\nModuleNotFoundError: No module named 'study'"
        path.write_bytes(cloudpickle.dumps(RayActorError(node, text)))
        dead: Any = SimpleNamespace(trial_id=name, pickled_error_file=str(path))
        self.execution.failed(dead)
        return self.agenda.deaths[-1][2:]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    return Run(tmp_path, monkeypatch)


def test_machine_whose_workers_cannot_start_is_left_aside_while_others_train(run: Run) -> None:
    for name in [run.start() for _ in range(8)]:
        run.begin(name, "good")
    told = [run.fail(run.start(), "bad") for _ in range(10)]
    # Once may be chance; after that no trial is to go there.
    assert [kind for kind, _, _ in told] == ["worker_killed"] + ["node_unfit"] * 9
    assert {node for *_, node in told} == {"bad"}
    assert told[0][1] == "its worker process on bad-host failed: ModuleNotFoundError: No module named 'study'"


def test_machine_that_fails_before_any_other_has_begun_ends_nothing(run: Run) -> None:
    waiting = [run.start() for _ in range(8)]
    assert [run.fail(run.start(), "bad")[0] for _ in range(5)][-1] == "node_unfit"
    for name in waiting:
        run.begin(name, "better")


def test_workers_that_start_nowhere_end_the_study(run: Run) -> None:
    for node in NODES[:2]:
        run.fail(run.start(), node)
    with pytest.raises(StudyError, match=r"3 workers in a row could not start: .* on bad-host failed"):
        run.fail(run.start(), "bad")


def test_workers_that_start_nowhere_any_more_end_the_study_once_nothing_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path, monkeypatch, ("bad",))
    last = run.start()
    run.begin(last, "bad")
    for _ in range(5):
        run.fail(run.start(), "bad")
    run.execution.ended(last)
    for _ in range(2):  # it has worked a moment ago
        run.fail(run.start(), "bad")
    with pytest.raises(StudyError, match="could not start"):
        run.fail(run.start(), "bad")


def test_machine_is_given_another_chance_once_a_worker_begins_there(run: Run) -> None:
    assert run.fail(run.start(), "bad")[0] == "worker_killed"
    run.begin(run.start(), "bad")
    assert run.fail(run.start(), "bad")[0] == "worker_killed"


@pytest.mark.parametrize(
    "change", [None, "the code here has changed since this study was launched: study/x.py"]
)
def test_unfit_worker_stops_the_study_if_the_code_of_its_driver_was_edited(
    run: Run, monkeypatch: pytest.MonkeyPatch, change: str | None
) -> None:
    monkeypatch.setattr(execution, "changed_code", lambda: change)
    name = run.start()
    run.begin(name, "good")
    told = News(0, 1, "good-host", "good", failure="other code", kind="node_unfit")
    run.execution.take(name, {NEWS: told})
    assert run.agenda.stopping == change and run.agenda.taken == [told]


def test_workers_that_die_nobody_knows_where_end_the_study(run: Run) -> None:
    for _ in range(2):
        assert run.fail(run.start(), None)[0] == "worker_killed"
    with pytest.raises(StudyError, match="3 workers in a row could not start"):
        run.fail(run.start(), None)
