"""Tune runs an agenda on a real Ray: workers that die or hang, drivers that are told to stop."""

import errno
import ipaddress
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from study.job import News
from study.ledger_storage import LedgerLocation, LedgerLost, hold
from study.phases import StudyError
from study.stopping import Stops
from tests.study.tune.scripted import LoadsSlowly, ScriptedAgenda, Unloadable, make_job, make_setup, play
from tests.study.tune.workers import TRAINS, workers_of

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    from study.tune.environment import prepare_environment

    before = dict(os.environ)
    prepare_environment(None)
    from study.tune.cluster import connect

    try:
        with connect(None, local_cpus=2):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True)
def nothing_held() -> Iterator[None]:
    """Give back what a run held that was given up; else the connection to Ray ends with it."""
    yield
    from ray._raylet import PlacementGroupID
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    for number, held in placement_group_table().items():
        if held["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(PlacementGroupID.from_hex(number)))


def run(agenda: Any, out: Path, limit_s: float | None = None, trial: Any = play, **stops: Any) -> Stops:
    """Run an agenda to its end; `stops` are the options of `Stops`."""
    from study.spec import Resources
    from study.tune.run import run_agenda

    setup = make_setup(str(out), limit_s)
    held = {"stage": Resources(cpus=1)}
    with Stops(agenda, **stops) as watched:
        run_agenda(agenda, setup, held, ["stage"], 2, stops=watched, run=trial)
    assert not (out / ".tune").exists()
    return watched


def finished(agenda: ScriptedAgenda) -> list[int]:
    return sorted(news.trial for news in agenda.taken if news.result is not None)


def test_local_ray_listens_on_loopback_only() -> None:
    # In a process of its own, as a study is: Ray reads what it may bind when it is imported.
    program = """
import contextlib
import psutil
from study.tune.environment import prepare_environment
prepare_environment(None)
from study.tune.cluster import connect
with connect(None, local_cpus=1):
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in child.net_connections("inet"):
                if one.status == psutil.CONN_LISTEN:
                    print(one.laddr.ip)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, check=True)
    listening = {ip.removeprefix("::ffff:") for ip in done.stdout.split()}
    assert listening and all(ipaddress.ip_address(ip).is_loopback for ip in listening), listening


def test_workers_that_die_are_told_apart_and_replaced(tmp_path: Path) -> None:
    dying = {1: "kill", 2: "exit", 3: "crash", 4: "return"}
    jobs = [make_job(0), *(make_job(trial, does=does) for trial, does in dying.items()), make_job(5)]
    agenda = ScriptedAgenda(jobs, attempts_allowed=2)
    stops = run(agenda, tmp_path)
    assert finished(agenda) == [0, 1, 2, 3, 5]
    assert stops.reason is None and stops.exit_status == 0
    deaths = {(trial, attempt): (kind, message) for trial, attempt, kind, message, _ in agenda.deaths}
    assert set(deaths) == {(1, 1), (2, 1), (3, 1), (4, 1), (4, 2)}
    assert {kind for kind, _ in deaths.values()} == {"worker_killed"}
    assert "vanished" in deaths[1, 1][1]
    assert "without a word" in deaths[4, 1][1]
    assert all(node is not None for *_, node in agenda.deaths)


@pytest.mark.situation(
    "environment",
    "no node has room for any of the trials that are to start",
    "the progress says so after 20 s, with what they ask for and how long they have waited",
)
def test_trials_that_wait_for_a_node_are_not_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from study.spec import Resources
    from study.tune.run import run_agenda

    monkeypatch.setattr("study.tune.execution._WAITS_LONG_S", 1.0)
    monkeypatch.setattr("study.tune.execution._LOOK_EVERY", 5)
    agenda = ScriptedAgenda([make_job(0), make_job(1)])
    said: list[str] = []

    def waits(text: str | None) -> None:
        if text is not None:
            said.append(text)
            agenda.stopping = "it has waited for long enough"

    held = {"stage": Resources(cpus=1, gpus=0.5)}
    with Stops(agenda) as stops:
        run_agenda(agenda, make_setup(str(tmp_path)), held, ["stage"], 2, stops=stops, waits=waits, run=play)
    assert said[0] == "waiting for nodes since 1 s: the trials ask for 2 × (1 CPU, 0.5 GPU)"


@pytest.mark.situation(
    "kill",
    "a trial hangs, with or without its process",
    "its worker ends itself at the stage's max_hours, or is killed soon after; the trial is tried once more",
)
def test_hanging_worker_ends_itself_or_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("study.tune.execution._OVERDUE_S", 1.0)
    agenda = ScriptedAgenda([make_job(0, does="hang"), make_job(1, does="stop"), make_job(2)])
    run(agenda, tmp_path, limit_s=2.0)
    assert finished(agenda) == [0, 1, 2]
    assert sorted((trial, attempt, kind) for trial, attempt, kind, *_ in agenda.deaths) == [
        (0, 1, "timeout"),
        (1, 1, "timeout"),
    ]
    assert agenda.deaths[0][3] == "it ran for more than 2 s, its limit"
    deadline = time.monotonic() + 10
    while any(
        process.status() == psutil.STATUS_STOPPED for process in psutil.Process().children(recursive=True)
    ):
        assert time.monotonic() < deadline, "the stopped process is still there"
        time.sleep(0.1)


@pytest.mark.situation(
    "environment",
    "a node joins, or a worker is replaced, while trials elsewhere end faster than a worker starts",
    "the worker is left to start, and takes its share; what becomes free elsewhere serves other trials",
)
def test_worker_that_starts_is_not_ended_by_trials_that_end_elsewhere(tmp_path: Path) -> None:
    class UntilBothTrain(ScriptedAgenda):
        def take(self, news: News) -> bool:
            stops = super().take(news)
            if len({taken.host for taken in self.taken}) == 2:
                self.jobs.clear()
            return stops

    agenda = UntilBothTrain([make_job(trial, epochs=2, epoch_s=0.4) for trial in range(100)])
    run(agenda, tmp_path, trial=LoadsSlowly(tmp_path / "first", wait_s=3.0))
    assert len({news.host for news in agenda.taken}) == 2
    assert not agenda.deaths


def test_workers_that_cannot_start_end_the_study(tmp_path: Path) -> None:
    agenda = ScriptedAgenda([make_job(trial) for trial in range(8)], attempts_allowed=9)
    with pytest.raises(StudyError, match=r"3 workers in a row could not start: .*No module named 'seglearn'"):
        run(agenda, tmp_path, trial=Unloadable())


@pytest.mark.parametrize(
    ("signals", "epoch_s", "within_s", "status"),
    [
        ([signal.SIGINT], 1.0, 4.0, 130),
        ([signal.SIGINT, signal.SIGINT], 60.0, 4.0, 130),
        ([signal.SIGTERM], 60.0, 5.0, 143),
        ([], 60.0, 4.0, 3),
    ],
    ids=["interrupted", "interrupted twice", "terminated", "time budget"],
)
def test_told_to_stop_it_stops_in_time_and_leaves_no_worker(
    signals: list[signal.Signals],
    epoch_s: float,
    within_s: float,
    status: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    agenda = ScriptedAgenda([make_job(trial, epoch_s=epoch_s, epochs=9) for trial in range(6)])
    sent: list[float] = []

    def send() -> None:
        deadline = time.monotonic() + 30
        while len(workers_of(os.getpid(), TRAINS)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        for number in signals:
            sent.append(time.monotonic())
            os.kill(os.getpid(), number)
            time.sleep(1)

    sender = threading.Thread(target=send)
    sender.start()
    started_s = time.monotonic()
    budget_s = 12.0
    stops = run(agenda, tmp_path, time_budget_s=None if signals else budget_s, grace_s=1.0)
    since_s = sent[0] if sent else started_s + budget_s
    assert time.monotonic() - since_s < within_s
    sender.join()
    assert stops.exit_status == status and stops.reason == agenda.stopping
    assert "stopping after the running epochs" in capsys.readouterr().out
    assert len(agenda.handed_out) == 2 and not agenda.deaths
    assert agenda.taken_at_stop is not None
    assert len(agenda.taken) - agenda.taken_at_stop <= (2 if epoch_s < 10 else 0)
    deadline = time.monotonic() + 5
    while workers_of(os.getpid()):
        assert time.monotonic() < deadline, "a worker is left"
        time.sleep(0.1)


def test_error_of_the_agenda_ends_the_run_as_it_is(tmp_path: Path) -> None:
    class Full(ScriptedAgenda):
        def take(self, news: News) -> bool:
            raise OSError(errno.ENOSPC, "No space left on device", "ledger.journal")

    agenda = Full([make_job(0), make_job(1, epoch_s=60.0)])
    started_s = time.monotonic()
    with pytest.raises(OSError, match="No space left") as caught:
        run(agenda, tmp_path)
    assert caught.value.errno == errno.ENOSPC
    assert time.monotonic() - started_s < 15


@pytest.mark.situation(
    "environment",
    "the folder of a running study is moved or deleted",
    "the study stops, and says that its lock file is gone",
)
def test_study_that_is_held_no_longer_ends_at_once(tmp_path: Path) -> None:
    held = LedgerLocation("journal", "ledger.journal", tmp_path / "ledger.journal")
    (tmp_path / "out").mkdir()

    def lose() -> None:
        next(tmp_path.glob(".*.driver")).unlink(missing_ok=True)
        study.check()

    agenda = ScriptedAgenda([make_job(trial, does="hang") for trial in range(3)])
    started_s = time.monotonic()
    with hold(held, "study") as study, pytest.raises(LedgerLost, match="was removed or replaced"):
        run(agenda, tmp_path / "out", check=lose)
    assert time.monotonic() - started_s < 20
    assert finished(agenda) == []


def test_crash_of_tune_costs_one_attempt_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from study.tune import execution

    turns = iter(range(10_000))
    turn = execution.Execution.turn

    def crash_once(self: Any, trials: Any) -> None:
        turn(self, trials)
        if len(agenda.taken) >= 2 and not agenda.deaths and next(turns) == 0:
            raise KeyError("an error of Tune")

    monkeypatch.setattr(
        "study.tune.run._AgendaCallback.on_step_end",
        lambda self, trials, **_: crash_once(self._execution, trials),
    )
    agenda = ScriptedAgenda([make_job(trial, epoch_s=0.5) for trial in range(3)])
    run(agenda, tmp_path)
    assert finished(agenda) == [0, 1, 2]
    assert {kind for _, _, kind, _, _ in agenda.deaths} == {"worker_killed"}
    assert all("Ray Tune gave up" in message for _, _, _, message, _ in agenda.deaths)
