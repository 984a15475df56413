"""What ends a study before its time, with a clock and signals of our own making."""

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from study.ledger_location import LedgerLost
from study.stopping import BUDGET_USED_UP, FAILED, INTERRUPTED, TERMINATED, Stops


@dataclass
class Agenda:
    stopping: str | None = None

    def stop(self, reason: str) -> None:
        assert self.stopping is None, "told twice"
        self.stopping = reason


@dataclass
class Case:
    """A study under watch at a time that the test sets."""

    agenda: Agenda = field(default_factory=Agenda)
    said: list[str] = field(default_factory=list)
    now_s: float = 1000.0

    def watch(self, time_budget_s: float | None = None, grace_s: float = 25.0) -> Stops:
        return Stops(
            self.agenda,
            time_budget_s=time_budget_s,
            grace_s=grace_s,
            say=self.said.append,
            clock=lambda: self.now_s,
        )

    def send(self, number: int, after_s: float = 1.0) -> None:
        self.now_s += after_s
        os.kill(os.getpid(), number)


@pytest.fixture
def case() -> Iterator[Case]:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield Case()
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_undisturbed_study_has_no_reason_to_stop(case: Case) -> None:
    with case.watch() as stops:
        case.now_s += 1e9
        assert not stops.poll()
    assert stops.reason is None and stops.exit_status == 0 and case.said == []


def test_study_is_checked_once_a_second_and_an_error_is_passed_on(case: Case) -> None:
    checks: list[float] = []

    def check() -> None:
        checks.append(case.now_s)
        if len(checks) == 3:
            raise LedgerLost("it is another driver's now")

    with Stops(case.agenda, clock=lambda: case.now_s, check=check) as stops:
        for _ in range(25):
            case.now_s += 0.1
            stops.poll()
        case.now_s += 1.0
        with pytest.raises(LedgerLost):
            stops.poll()
    assert checks == pytest.approx([1001.0, 1002.0, 1003.5], abs=0.15)


def test_interrupted_once_it_waits_for_epochs_and_twice_it_does_not(case: Case) -> None:
    with case.watch() as stops:
        case.send(signal.SIGINT)
        assert stops.reason is None, "a handler only takes note"
        assert not stops.poll() and not stops.poll()
        assert case.said == [
            "interrupted by Ctrl-C: stopping after the running epochs; Ctrl-C again stops now"
        ]
        case.now_s += 3600
        assert not stops.poll()
        case.send(signal.SIGINT)
        assert stops.poll()
    assert stops.reason == "interrupted by Ctrl-C" and stops.exit_status == INTERRUPTED == 130
    assert len(case.said) == 1


def test_interrupt_that_arrives_twice_at_once_counts_once(case: Case) -> None:
    """A terminal sends Ctrl-C to the whole group, and what runs the command may pass it on."""
    with case.watch() as stops:
        case.send(signal.SIGINT)
        case.send(signal.SIGINT, after_s=0.1)
        assert not stops.poll()


def test_third_interrupt_gets_out_of_what_does_not_come_back(case: Case) -> None:
    with case.watch():
        case.send(signal.SIGINT)
        case.send(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            case.send(signal.SIGINT)


def test_terminated_it_waits_for_epochs_until_the_grace_is_over(case: Case) -> None:
    with case.watch(grace_s=25) as stops:
        case.send(signal.SIGTERM)
        case.send(signal.SIGTERM, after_s=0.0)  # timeout(1) sends it twice
        assert not stops.poll()
        case.now_s += 24
        case.send(signal.SIGTERM, after_s=0.0)
        assert not stops.poll()
        case.now_s += 1
        assert stops.poll()
    assert stops.reason == "told to end by SIGTERM" and stops.exit_status == TERMINATED == 143
    assert case.said == ["told to end by SIGTERM: stopping after the running epochs; in 25 s at the latest"]


def test_interrupt_after_sigterm_stops_no_sooner_than_a_second_one(case: Case) -> None:
    with case.watch() as stops:
        case.send(signal.SIGTERM)
        case.send(signal.SIGINT)
        assert not stops.poll()
        case.send(signal.SIGINT)
        assert stops.poll()
    assert stops.exit_status == INTERRUPTED


def test_time_budget_counts_from_the_start_and_ends_within_its_grace(case: Case) -> None:
    with case.watch(time_budget_s=7200, grace_s=10) as stops:
        case.now_s += 7199
        assert not stops.poll() and stops.reason is None
        case.now_s += 2
        assert not stops.poll()
        assert stops.reason == "the time budget of 2 h 00 min is used up"
        case.now_s += 9
        assert stops.poll()
    assert stops.exit_status == BUDGET_USED_UP == 3


def test_study_that_stops_itself_says_so_and_has_failed(case: Case) -> None:
    with case.watch() as stops:
        case.agenda.stopping = "the disk of /data is full"
        assert not stops.poll() and not stops.poll()
        case.send(signal.SIGINT)
        assert not stops.poll()
    assert case.said == ["the disk of /data is full: stopping after the running epochs"]
    assert stops.reason == "the disk of /data is full" and stops.exit_status == FAILED == 1
