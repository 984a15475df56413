"""What becomes of a trial whose attempt fails, and of the study."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from study.failures import PolicyKind
from study.job import News
from study.ledger_location import LedgerLost
from study.plan import Plan
from tests.study.pretended import PretendedWorkers, open_agenda

MakePlan = Callable[..., Plan]
situation = pytest.mark.situation


def test_trial_of_a_dead_worker_is_handed_out_again(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(deterministic=True)
    agenda, ledger = open_agenda(plan)
    job = agenda.next_job()
    assert job is not None
    agenda.died(job.trial, job.attempt, "worker_killed", "killed by SIGKILL")
    again = agenda.next_job()
    assert again == replace(job, attempt=2)
    agenda.died(job.trial, 1, "worker_killed", "told late")  # the first attempt is dead already
    agenda.died(job.trial, 2, "worker_killed", "killed again")
    assert PretendedWorkers(plan, 0, 2).run(agenda) and agenda.done
    assert len(ledger.rows) == 12 + 4 + 6 + 6
    row = ledger.rows[job.trial]
    assert (row.status, row.attempts, [f.attempt for f in row.failures]) == ("complete", 3, [1, 2])


def test_epochs_that_are_told_with_a_failure_are_on_record(make_small_plan: MakePlan) -> None:
    agenda, ledger = open_agenda(make_small_plan())
    job = agenda.next_job()
    assert job is not None
    epochs = {1: {"loss/total": 2.0}, 2: {"loss/total": 1.0}}
    news = News(job.trial, job.attempt, "here", epochs=epochs, failure="not finite", kind="non_finite")
    agenda.take(news)
    row = ledger.rows[job.trial]
    assert (row.status, row.failure_kind, sorted(row.epochs)) == ("failed", "non_finite", [1, 2])
    assert [failure.epoch for failure in row.failures] == [2]


@situation(
    "kill",
    "the worker of a trial dies again and again before it ends another epoch",
    "after the number of times in `failures:` the trial has failed; the table names it as missing",
)
def test_trial_that_dies_without_progress_fails_at_last(make_small_plan: MakePlan) -> None:
    agenda, ledger = open_agenda(make_small_plan())
    trial = 0
    for _ in range(3):
        job = agenda.next_job()
        assert job is not None and job.trial == trial
        agenda.died(trial, job.attempt, "worker_killed", "killed")
        assert ledger.rows[trial].status == "waiting"
    job = agenda.next_job()
    assert job is not None
    agenda.died(trial, job.attempt, "worker_killed", "killed")
    row = ledger.rows[trial]
    assert (row.status, row.failure_kind, row.failure) == ("failed", "worker_killed", "killed")
    assert [failure.action for failure in row.failures] == ["retry"] * 3 + ["never"]


def test_progress_between_deaths_starts_the_count_anew(make_small_plan: MakePlan) -> None:
    agenda, ledger = open_agenda(make_small_plan())
    for epoch in range(1, 9):
        job = agenda.next_job()
        assert job is not None and job.trial == 0
        agenda.take(News(0, job.attempt, "here", epochs={epoch: {"loss/total": 1.0}}))
        agenda.died(0, job.attempt, "worker_killed", "killed")
    assert ledger.rows[0].status == "waiting"


@situation(
    "kill",
    "a worker runs out of the host's memory",
    "its trial goes on from its last epoch on another node if there is one; how often is set in `failures:`",
)
def test_trial_is_kept_away_from_a_node_that_it_failed_on(make_small_plan: MakePlan) -> None:
    agenda, _ = open_agenda(make_small_plan())
    job = agenda.next_job()
    assert job is not None and job.avoid == ()
    agenda.died(job.trial, job.attempt, "host_memory", "out of memory", node="ab")
    again = agenda.next_job()
    assert again is not None and again.trial == job.trial and again.avoid == ("ab",)


@pytest.mark.parametrize("kind", ["non_finite", "bad_data", "code_error"])
def test_deterministic_error_is_not_retried(make_small_plan: MakePlan, kind: PolicyKind) -> None:
    agenda, ledger = open_agenda(make_small_plan())
    job = agenda.next_job()
    assert job is not None
    agenda.take(News(job.trial, job.attempt, "here", failure="it cannot work", kind=kind))
    row = ledger.rows[job.trial]
    assert (row.status, row.failure_kind, row.attempts) == ("failed", kind, 1)


def test_space_file_says_what_is_done_after_a_failure(make_small_plan: MakePlan) -> None:
    failures = {"code_error": {"action": "retry", "times": 1}, "worker_killed": {"action": "never"}}
    agenda, ledger = open_agenda(make_small_plan(space={"failures": failures}))
    first, second = agenda.next_job(), agenda.next_job()
    assert first is not None and second is not None
    agenda.died(first.trial, 1, "code_error", "a bug")
    agenda.died(second.trial, 1, "worker_killed", "killed")
    assert [ledger.rows[job.trial].status for job in (first, second)] == ["waiting", "failed"]


@situation(
    "kill",
    "a worker that was given up goes on reporting (its node was cut off, and came back)",
    "its news are ignored and it is told to stop; the attempt that replaced it counts",
)
def test_news_of_an_attempt_that_was_given_up_are_ignored(make_small_plan: MakePlan) -> None:
    agenda, ledger = open_agenda(make_small_plan())
    job = agenda.next_job()
    assert job is not None
    agenda.died(job.trial, 1, "node_lost", "its node died", node="ab")
    again = agenda.next_job()
    assert again is not None and again.attempt == 2
    zombie = News(job.trial, 1, "there", epochs={1: {"loss/total": 5.0}}, result={"metrics": {}})
    assert agenda.take(zombie)
    assert ledger.rows[job.trial].epochs == {}
    assert ledger.rows[job.trial].status == "running"


def test_all_trials_keep_away_from_an_unfit_node(make_small_plan: MakePlan) -> None:
    agenda, _ = open_agenda(make_small_plan())
    first, second = agenda.next_job(), agenda.next_job()
    assert first is not None and second is not None and second.avoid == ()
    agenda.died(first.trial, 1, "node_unfit", "it lacks the data", "b", "bb")
    agenda.died(second.trial, 1, "gpu_memory", "it is full", "a", "aa")
    again = [agenda.next_job(), agenda.next_job(), agenda.next_job()]
    avoided = {job.trial: job.avoid for job in again if job is not None}
    assert avoided.pop(first.trial) == ("bb",)
    assert avoided.pop(second.trial) == ("aa", "bb")
    assert list(avoided.values()) == [("bb",)]  # a fresh trial


@situation(
    "storage",
    "a worker finds the disk full",
    "the study stops cleanly and says how much is needed; the same command continues it once there is space",
)
def test_full_disk_stops_the_study_and_nothing_has_failed(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(deterministic=True)
    agenda, ledger = open_agenda(plan)
    first, second = agenda.next_job(), agenda.next_job()
    assert first is not None and second is not None
    agenda.take(News(first.trial, 1, "here", failure="no space left", kind="disk_full"))
    assert agenda.stopping == "no space left"
    assert agenda.next_job() is None
    assert agenda.take(News(second.trial, 1, "here", epochs={1: {"loss/total": 1.0}}))
    agenda.close()
    assert {row.status for row in ledger.rows.values()} == {"waiting"}
    assert not agenda.done
    again, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, 0, 2).run(again) and again.done
    assert {row.status for row in ledger.rows.values()} <= {"complete", "stopped"}


@pytest.mark.parametrize("method", ["set_waiting", "end", "record_failure"])
def test_trial_whose_end_cannot_be_written_is_left_to_the_end_of_the_launch(
    make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    agenda, ledger = open_agenda(make_small_plan())
    job = agenda.next_job()
    assert job is not None

    def refuse(*_: Any, **__: Any) -> None:
        raise LedgerLost("No space left on device")

    with monkeypatch.context() as full:
        full.setattr(ledger, method, refuse)
        kind: PolicyKind = "code_error" if method == "end" else "disk_full"
        with pytest.raises(LedgerLost):
            agenda.take(News(job.trial, 1, "here", failure="no space left", kind=kind))
    agenda.close()
    assert ledger.rows[job.trial].status == "waiting"


def test_trial_that_ends_while_the_study_stops_has_ended(make_small_plan: MakePlan) -> None:
    agenda, ledger = open_agenda(make_small_plan())
    job = agenda.next_job()
    assert job is not None
    agenda.stop("interrupted")
    agenda.take(News(job.trial, 1, "here", result={"metrics": {}, "export": "x"}))
    agenda.close()
    assert ledger.rows[job.trial].status == "complete"


@situation(
    "input",
    "more trials fail than --max-failures allows",
    "the study stops after the running epochs and says so; the same command continues it",
)
def test_more_failures_than_allowed_stop_the_study(make_small_plan: MakePlan) -> None:
    agenda, _ = open_agenda(make_small_plan(max_failures=1))
    for _ in range(2):
        assert agenda.stopping is None
        job = agenda.next_job()
        assert job is not None
        agenda.died(job.trial, 1, "code_error", "a bug")
    assert agenda.stopping is not None and "--max-failures" in agenda.stopping


def test_failed_trials_run_again_on_request(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(deterministic=True)
    agenda, _ = open_agenda(plan)
    workers = PretendedWorkers(plan, 0, 2, fails=lambda job: job.stage == 0 and job.seed == 1)
    assert workers.run(agenda)

    untouched, ledger = open_agenda(plan)
    assert untouched.next_job() is None and untouched.done
    plan = make_small_plan(deterministic=True, retry_failed=True)
    agenda, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, 0, 2).run(agenda) and agenda.done
    rows = [row for row in ledger.rows.values() if row.superseded is None]
    assert {row.status for row in rows} <= {"complete", "stopped"}
    assert len(rows) == 12 + 4 + 6 + 6
    assert sum(row.superseded is not None for row in ledger.rows.values()) == 4
