"""The order of work, driven by pretended workers: counts, waiting, stopping, crashes, timing."""

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from study.failures import PolicyKind
from study.job import Job, News
from study.ledger_location import FILE_NAME, LedgerLost
from study.phases import StudyError
from study.plan import Plan
from study.rows import Row
from study.search import Proposals
from tests.study import pretended
from tests.study.pretended import SPACE, PretendedWorkers, open_agenda

MakePlan = Callable[..., Plan]
situation = pytest.mark.situation

# One example takes half a second: a failure is reported as it was found, not shrunk for ten minutes.
expensive = settings(
    max_examples=8,
    deadline=None,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def finished(plan: Plan, *, seed: int = 0, concurrency: int = 2) -> dict[int, Row]:
    agenda, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, seed, concurrency).run(agenda)
    assert agenda.done
    return ledger.rows


def essence(rows: Mapping[int, Row]) -> list[Any]:
    """What a row says, whatever its number and its times."""
    return sorted(
        (repr(row.cell), sorted(row.parameters.items()), row.status, sorted(row.epochs), str(row.result))
        for row in rows.values()
    )


def test_every_cell_runs_once_and_pretraining_is_shared(make_small_plan: MakePlan) -> None:
    rows = finished(make_small_plan()).values()
    finetunes = [row for row in rows if row.cell.stage == "finetune"]
    pretrains = [row for row in rows if row.cell.stage == "pretrain"]

    assert Counter(row.cell.phase for row in finetunes) == {"search": 12, "confirm": 4, "ablation": 6}
    assert max(Counter(row.cell for row in rows).values()) == 1
    assert len(pretrains) == len({row.cell.pretrain_key for row in finetunes}) == 2 + 2 + 2
    assert {row.cell.pretrain_key for row in pretrains} == {row.cell.pretrain_key for row in finetunes}
    assert all(row.status in ("complete", "stopped") for row in rows)


def test_seeds_of_the_phases_are_disjoint_and_arms_share_theirs(make_small_plan: MakePlan) -> None:
    rows = finished(make_small_plan()).values()
    seeds = {
        phase: {row.cell.seed for row in rows if row.cell.phase == phase}
        for phase in ("search", "confirm", "ablation")
    }
    assert not seeds["search"] & seeds["confirm"]
    assert not (seeds["search"] | seeds["confirm"]) & seeds["ablation"]
    for seed in seeds["ablation"]:
        of_seed = [row.cell for row in rows if row.cell.seed == seed and row.cell.arm]
        assert {cell.arm for cell in of_seed} == {"acmnet", "cont", "FSD+LCS"}
        assert len({cell.pretrain_key for cell in of_seed}) == 1


def test_first_proposal_is_the_published_defaults(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    rows = finished(plan).values()
    first = next(row for row in rows if row.cell.proposal == 0)
    assert {**plan.space.fixed, **plan.space.defaults("synthetic")} == dict(first.parameters)


def test_only_search_trials_are_stopped_and_only_at_rungs(make_small_plan: MakePlan) -> None:
    rows = finished(make_small_plan()).values()
    stopped = [row for row in rows if row.status == "stopped"]
    assert stopped
    assert all(row.cell.phase == "search" and max(row.epochs) in (1, 2) for row in stopped)


def test_winner_has_the_best_mean_over_search_and_confirmation(make_small_plan: MakePlan) -> None:
    rows = finished(make_small_plan()).values()
    values: dict[int, list[float]] = {}
    for row in rows:
        if row.cell.proposal is not None and row.status == "complete":
            values.setdefault(row.cell.proposal, []).append(row.result["metrics"]["validation/mAP@0.1:0.7"])
    confirmed = {number: of for number, of in values.items() if len(of) == 4}
    assert len(confirmed) == 2
    winner = max(confirmed, key=lambda number: sum(confirmed[number]))
    own = next(row.parameters for row in rows if row.cell.proposal == winner)
    full = next(row.parameters for row in rows if row.cell.arm == "FSD+LCS")
    assert full == own


def test_nothing_waits_in_a_slot(make_small_plan: MakePlan) -> None:
    """While two pretrainings run, their dependants are held back and later pretrainings fill the slots."""
    agenda, ledger = open_agenda(make_small_plan())
    jobs = [agenda.next_job() for _ in range(7)]
    stages = [None if job is None else ledger.rows[job.trial].cell.stage for job in jobs]
    assert stages == ["pretrain"] * 6 + [None]


@pytest.mark.parametrize("concurrency", [1, 2, 4])
def test_sampler_learns_from_results_whatever_the_concurrency(
    make_small_plan: MakePlan, concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proposal is asked when a slot is free for it, not while others wait for their pretrained model."""
    search = {**SPACE["search"], "trials": 12, "early_stopping": None}
    agenda, _ = open_agenda(plan := make_small_plan(space={"search": search}))
    told_at_ask: list[int] = []
    ask = Proposals.ask

    def counted_ask(self: Proposals) -> int:
        told_at_ask.append(sum(not self.is_open(number) for number in self.settings))
        return ask(self)

    monkeypatch.setattr(Proposals, "ask", counted_ask)
    assert PretendedWorkers(plan, 0, concurrency).run(agenda)
    assert told_at_ask[-1] >= 11 - concurrency


@situation(
    "kill",
    "the ledger ends after any of its lines, as a killed driver or a restored backup leaves it",
    "the same command ends in the same study: same trials, same settings, same table",
)
def test_every_prefix_of_the_journal_ends_in_the_same_study(
    make_small_plan: MakePlan, tmp_path: Path
) -> None:
    """The driver may die between any two lines that it writes."""
    plan = make_small_plan(deterministic=True)
    whole = essence(finished(plan, concurrency=3))
    lines = (Path(plan.out) / FILE_NAME).read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 11):
        cut = make_small_plan(deterministic=True, out=str(tmp_path / f"cut{kept}"))
        Path(cut.out).mkdir()
        (Path(cut.out) / FILE_NAME).write_bytes(b"".join(lines[:kept]))
        shutil.copytree(Path(plan.out) / "pretrained", Path(cut.out) / "pretrained")
        assert essence(finished(cut)) == whole, f"after line {kept}"


@pytest.mark.parametrize("asked", [1, 2])
def test_batch_that_was_cut_short_is_completed_before_its_trials_go_on(
    make_small_plan: MakePlan, tmp_path: Path, asked: int
) -> None:
    """Even where there is one slot, so that its first proposal ends before another trial can start."""
    plan = make_small_plan(deterministic=True)
    whole = essence(finished(plan, concurrency=3))
    cut = make_small_plan(deterministic=True, out=str(tmp_path / "cut"))
    agenda, _ = open_agenda(cut)
    proposals = agenda._phases[0].proposals
    for _ in range(asked):
        proposals.ask()
    assert essence(finished(cut, concurrency=1)) == whole


def test_proposal_whose_objective_is_no_number_never_wins(
    make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = pretended.pretended_value
    monkeypatch.setattr(
        pretended,
        "pretended_value",
        lambda job, epoch: float("nan") if job.tags.get("proposal") == 1 else value(job, epoch),
    )
    rows = finished(make_small_plan(space={"search": {**SPACE["search"], "early_stopping": None}})).values()
    unlike = next(row.parameters for row in rows if row.cell.proposal == 1)
    assert all(row.parameters != unlike for row in rows if row.cell.phase in ("confirm", "ablation"))
    assert Counter(row.cell.phase for row in rows if row.cell.arm) == {"ablation": 6}


def test_recipe_of_one_stage_needs_no_pretraining(make_small_plan: MakePlan) -> None:
    space = {
        "recipe": "acmnet",
        "fixed": {},
        "search": {
            **SPACE["search"],
            "early_stopping": None,
            "parameters": {"pretrain.learning_rate": {"float": [1.0e-4, 1.0e-1], "log": True}},
        },
        "ablation": {
            "seeds": 2,
            "baseline": "searched",
            "arms": {"searched": {}, "defaults": {"pretrain.learning_rate": 1.0e-3}},
        },
    }
    rows = finished(make_small_plan(space=space)).values()
    assert {row.cell.stage for row in rows} == {"pretrain"}
    assert all(row.status == "complete" and row.cell.pretrain_key is None for row in rows)
    assert len([row for row in rows if row.cell.phase == "ablation"]) == 4


WITHOUT_SEARCH: dict[str, Any] = {
    "recipe": "acmnet",
    "fixed": {},
    "search": None,
    "ablation": {
        "seeds": 2,
        "baseline": "default",
        "arms": {"default": {}, "no guide": {"acmnet.lambda_guide": 0.0}},
    },
}


def test_study_without_a_search_runs_its_arms_on_the_defaults(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(space={"search": None})
    rows = finished(plan).values()
    assert {row.cell.phase for row in rows} == {"ablation"}
    arms = plan.space.ablation.arms
    of_arms = [row for row in rows if row.cell.arm is not None]
    assert len(of_arms) == 2 * len(arms)
    assert all(dict(row.parameters) == {**plan.space.fixed, **arms[row.cell.arm]} for row in of_arms)


def test_gate_of_a_recipe_of_one_stage_judges_all_arms_of_a_seed(make_small_plan: MakePlan) -> None:
    # A pretended score is the best of 8 uniform ones in 0..100: both arms pass in 1 seed of 3.
    gate = {"metric": "mAP@0.1:0.7", "at_least": 90.0}
    plan = make_small_plan(space={**WITHOUT_SEARCH, "gate": gate}, seeds=4)
    agenda, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, 0, 3).run(agenda) and agenda.done
    score: dict[int, list[float]] = {}
    for row in ledger.rows.values():
        score.setdefault(row.cell.seed, []).append(row.result["metrics"]["validation/mAP@0.1:0.7"])
    assert all(len(of_seed) == 2 for of_seed in score.values())
    passing = [seed for seed in sorted(score) if min(score[seed]) >= 90.0]
    pool = agenda.pools["ablation"]
    assert pool.ungated == (0, 1, 2, 3)
    assert pool.chosen() == tuple(passing[:4]) != pool.ungated


@pytest.mark.parametrize("crash", [3, 9, 14])
def test_gate_on_the_arms_is_the_same_after_a_crash(
    make_small_plan: MakePlan, tmp_path: Path, crash: int
) -> None:
    gate = {"metric": "mAP@0.1:0.7", "at_least": 90.0}
    plan = make_small_plan(space={**WITHOUT_SEARCH, "gate": gate})
    whole = essence(finished(plan))
    cut = make_small_plan(space={**WITHOUT_SEARCH, "gate": gate}, out=str(tmp_path / "cut"))
    agenda, _ = open_agenda(cut)
    PretendedWorkers(cut, crash, 2).run(agenda, max_news=crash)
    assert essence(finished(cut)) == whole


@situation(
    "input",
    "a pretraining fails for good",
    "the trials that start from it fail with its reason; all others go on",
)
def test_failed_pretraining_fails_its_dependants_with_the_reason(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    agenda, ledger = open_agenda(plan)
    workers = PretendedWorkers(plan, 0, 2)
    workers.fails = lambda job: job.stage == 0 and job.seed == 1
    assert workers.run(agenda) and agenda.done
    failed = [row for row in ledger.rows.values() if row.status == "failed" and row.cell.arm]
    assert {row.cell.seed for row in failed} == {1}
    assert len(failed) == 3
    assert all("told to fail" in (row.failure or "") for row in failed)


@situation(
    "input",
    "no proposal of the search runs to its end on every seed",
    "the study ends without an ablation, and says where the reasons stand",
)
def test_search_without_a_complete_proposal_ends_with_words(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    agenda, _ = open_agenda(plan)
    workers = PretendedWorkers(plan, 0, 2)
    workers.fails = lambda job: job.stage == 1
    with pytest.raises(StudyError, match="no proposal"):
        workers.run(agenda)


@situation(
    "input",
    "a pretrained model misses the gate",
    "the next seed takes its place; the table shows the first seeds too",
)
def test_seed_that_misses_the_gate_is_replaced_by_the_next(make_small_plan: MakePlan) -> None:
    # The pretended score of a pretrained model is uniform in 0..100.
    plan = make_small_plan(space={"gate": {"metric": "mAP@0.1:0.7", "at_least": 90.0}})
    rows = finished(plan, concurrency=3).values()
    score = {
        row.cell.seed: row.result["metrics"]["validation/mAP@0.1:0.7"]
        for row in rows
        if row.cell.stage == "pretrain"
    }
    passing = [seed for seed in sorted(score) if seed < 3000 and score[seed] >= 90][:2]
    used = {row.cell.seed for row in rows if row.cell.arm == "cont"}
    assert used == {0, 1} | set(passing)
    assert any(score[seed] < 90 for seed in score)
    for phase in ("search", "confirm"):
        of_phase = {
            row.cell.seed for row in rows if row.cell.phase == phase and row.cell.proposal is not None
        }
        assert all(score[seed] >= 90 for seed in of_phase)


@situation(
    "input",
    "no pretrained model passes the gate",
    "after 3 × the wanted seeds the study ends, and says what to lower",
)
def test_gate_that_nobody_passes_ends_with_words(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(space={"gate": {"metric": "mAP@0.1:0.7", "at_least": 101.0}})
    agenda, ledger = open_agenda(plan)
    with pytest.raises(StudyError, match="no search seed passed the gate"):
        PretendedWorkers(plan, 0, 2).run(agenda)
    tried = [row for row in ledger.rows.values() if row.cell.phase == "search"]
    assert len(tried) == 3 * plan.space.search.seeds


def test_searched_pretraining_has_a_key_for_each_proposal(make_small_plan: MakePlan) -> None:
    search = {
        **SPACE["search"],
        "parameters": {"pretrain.learning_rate": {"float": [1.0e-4, 1.0e-1], "log": True}},
    }
    rows = finished(make_small_plan(space={"search": search})).values()
    keys = {row.cell.pretrain_key for row in rows if row.cell.stage == "pretrain"}
    assert len(keys) == 6 * 2 + 2 * 2 + 2


@expensive
@given(seed=st.integers(0, 10**6), concurrency=st.integers(1, 7))
def test_deterministic_study_does_not_depend_on_timing(
    make_small_plan: MakePlan, tmp_path_factory: pytest.TempPathFactory, seed: int, concurrency: int
) -> None:
    def run(order: int, slots: int) -> list[Any]:
        plan = make_small_plan(deterministic=True, out=str(tmp_path_factory.mktemp("study") / "out"))
        return essence(finished(plan, seed=order, concurrency=slots))

    assert run(seed, concurrency) == run(0, 1)


@situation(
    "kill",
    "the driver is killed again and again, at any moment",
    "the same command goes on: no trial is lost, none counts twice",
)
@expensive
@given(crashes=st.lists(st.integers(0, 40), min_size=1, max_size=4), concurrency=st.integers(1, 4))
def test_crashes_lose_and_repeat_nothing(
    make_small_plan: MakePlan,
    tmp_path_factory: pytest.TempPathFactory,
    crashes: list[int],
    concurrency: int,
) -> None:
    """The driver dies after so many news, again and again; each time a new one opens the ledger."""
    plan = make_small_plan(deterministic=True, out=str(tmp_path_factory.mktemp("study") / "out"))
    for max_news in crashes:
        agenda, _ = open_agenda(plan)
        PretendedWorkers(plan, max_news, concurrency).run(agenda, max_news=max_news)
    agenda, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, 0, concurrency).run(agenda) and agenda.done

    whole = make_small_plan(deterministic=True, out=str(tmp_path_factory.mktemp("study") / "out"))
    assert essence(ledger.rows) == essence(finished(whole))


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
    workers = PretendedWorkers(plan, 0, 2)
    workers.fails = lambda job: job.stage == 0 and job.seed == 1
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


@situation(
    "storage",
    "somebody has removed the exported model of a pretraining that another trial needs",
    "it is pretrained again; what has ended stays, and models that nobody needs any more stay away",
)
def test_lost_export_is_made_again_when_it_is_needed(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(deterministic=True)
    before = dict(finished(plan))
    for name in plan.store.names("pretrained"):
        plan.store.delete(f"pretrained/{name}")
    arms = {**SPACE["ablation"]["arms"], "+LCS": {"finetune.lambda_fsd": 0.0}}
    plan = make_small_plan(deterministic=True, space={"ablation": {**SPACE["ablation"], "arms": arms}})
    rows = finished(plan)
    new = [row for trial, row in rows.items() if trial not in before]
    assert Counter((row.cell.stage, row.cell.seed) for row in new) == Counter(
        {(stage, seed): 1 for stage in ("pretrain", "finetune") for seed in (0, 1)}
    )
    lost = [row for row in rows.values() if row.superseded is not None]
    assert [row.cell.seed for row in lost] == [0, 1]
    assert all("is gone" in str(row.superseded) for row in lost)


def interrupt_at(arm: str, plan: Plan) -> None:
    """Run a study, and stop it while the first trial of an arm is with a worker."""
    agenda, ledger = open_agenda(plan)
    workers = PretendedWorkers(plan, 0, 1)
    workers.fails = lambda job: job.tags.get("arm") == arm and agenda.stop("enough") is None
    workers.failure_kind = "worker_killed"
    workers.run(agenda)
    agenda.close()
    assert any(row.cell.arm == arm and row.status == "waiting" for row in ledger.rows.values())


@situation(
    "storage",
    "models that had passed the gate are removed in the middle of a search, and the driver is killed again",
    "they are pretrained again, and the search goes on as it would have",
)
@pytest.mark.parametrize("again", [0, 30])
def test_search_whose_gated_models_were_lost_goes_on(
    make_small_plan: MakePlan, tmp_path: Path, again: int
) -> None:
    gate = {"metric": SPACE["objective"]["metric"], "at_least": 0.0}
    plan = make_small_plan(space={"gate": gate}, deterministic=True)
    agenda, ledger = open_agenda(plan)
    PretendedWorkers(plan, 0, 2).run(agenda, max_news=30)
    assert any(
        row.status in ("complete", "stopped") and row.cell.proposal == 0 for row in ledger.rows.values()
    )
    shutil.rmtree(Path(plan.out) / "pretrained")
    for max_news in (again, None):
        agenda, ledger = open_agenda(plan)
        PretendedWorkers(plan, 0, 2).run(agenda, max_news=max_news)
    assert agenda.done
    whole = make_small_plan(space={"gate": gate}, deterministic=True, out=str(tmp_path / "whole"))
    counting = {trial: row for trial, row in ledger.rows.items() if row.superseded is None}
    assert essence(counting) == essence(finished(whole))


def test_interrupted_trial_whose_model_was_removed_waits_for_a_new_one(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(deterministic=True)
    interrupt_at("cont", plan)
    for name in plan.store.names("pretrained"):
        plan.store.delete(f"pretrained/{name}")
    agenda, ledger = open_agenda(plan)
    again = PretendedWorkers(plan, 0, 2)
    assert again.run(agenda) and agenda.done
    assert all(row.status in ("complete", "stopped") for row in ledger.rows.values())
    assert again.jobs[0].stage == 0
    assert all(job.stage == 0 or job.init is not None for job in again.jobs)


def test_interrupted_trial_of_a_changed_arm_does_not_go_on(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(deterministic=True)
    interrupt_at("cont", plan)
    arms = {**SPACE["ablation"]["arms"], "cont": {"finetune.lambda_fsd": 0.01}}
    plan = make_small_plan(deterministic=True, space={"ablation": {**SPACE["ablation"], "arms": arms}})
    agenda, ledger = open_agenda(plan)
    again = PretendedWorkers(plan, 0, 1)
    assert again.run(agenda) and agenda.done
    settings = [job.parameters["finetune.lambda_fsd"] for job in again.jobs if job.tags.get("arm") == "cont"]
    assert settings == [0.01, 0.01]
    assert all(row.status not in ("running", "waiting") for row in ledger.rows.values())


def test_result_that_was_retried_counts_again_when_it_is_wanted_again(make_small_plan: MakePlan) -> None:
    def run(fails: bool = False, **options: Any) -> int:
        plan = make_small_plan(deterministic=True, **options)
        agenda, _ = open_agenda(plan)
        workers = PretendedWorkers(plan, 0, 2)
        workers.fails = lambda job: fails and job.tags.get("arm") == "FSD+LCS"
        assert workers.run(agenda)
        return len(workers.jobs)

    arms = {**SPACE["ablation"]["arms"], "FSD+LCS": {"finetune.fsd_len": 4}}
    run(fails=True)
    assert run(retry_failed=True) == 2
    assert run(space={"ablation": {**SPACE["ablation"], "arms": arms}}) == 2
    assert run() == 0


class TestExtending:
    """More of the same study, and no more than that."""

    def run(self, plan: Plan) -> tuple[list[Job], dict[int, Row]]:
        agenda, ledger = open_agenda(plan)
        workers = PretendedWorkers(plan, 0, 2)
        assert workers.run(agenda) and agenda.done
        return workers.jobs, ledger.rows

    def test_more_seeds_run_only_the_new_seeds(self, make_small_plan: MakePlan) -> None:
        self.run(make_small_plan(deterministic=True))
        jobs, rows = self.run(make_small_plan(deterministic=True, seeds=4))
        assert sorted((job.stage, job.seed) for job in jobs) == [(0, 2), (0, 3)] + [(1, 2)] * 3 + [(1, 3)] * 3
        assert all(row.superseded is None for row in rows.values())

    def test_extended_study_is_the_study_that_was_larger_from_the_start(
        self, make_small_plan: MakePlan, tmp_path: Path
    ) -> None:
        self.run(make_small_plan(deterministic=True))
        _, extended = self.run(make_small_plan(deterministic=True, seeds=3, trials=12))
        large = make_small_plan(deterministic=True, seeds=3, trials=12, out=str(tmp_path / "large"))
        _, whole = self.run(large)
        assert essence(counting(extended, "ablation")) == essence(counting(whole, "ablation"))
        assert essence(counting(extended, "search")) == essence(counting(whole, "search"))

    def test_trials_of_another_winner_no_longer_count_and_say_why(self, make_small_plan: MakePlan) -> None:
        _, before = self.run(make_small_plan(deterministic=True, trials=1))
        _, rows = self.run(make_small_plan(deterministic=True, trials=6))
        assert winner_settings(rows) != winner_settings(before), "the winner is the same: ask for more trials"
        superseded = [row for row in rows.values() if row.superseded is not None]
        assert {row.cell.seed for row in superseded if row.cell.arm == "FSD+LCS"} == {0, 1}
        assert all("other settings are wanted now: finetune." in str(row.superseded) for row in superseded)

    def test_new_arm_runs_alone(self, make_small_plan: MakePlan) -> None:
        self.run(make_small_plan(deterministic=True))
        arms = {**SPACE["ablation"]["arms"], "+LCS": {"finetune.lambda_fsd": 0.0}}
        space = {"ablation": {**SPACE["ablation"], "arms": arms}}
        jobs, _ = self.run(make_small_plan(deterministic=True, space=space))
        assert [job.tags["arm"] for job in jobs] == ["+LCS", "+LCS"]

    def test_changed_arm_runs_again_and_counts_again_when_it_is_changed_back(
        self, make_small_plan: MakePlan
    ) -> None:
        _, before = self.run(make_small_plan(deterministic=True))
        arms = {**SPACE["ablation"]["arms"], "cont": {"finetune.lambda_fsd": 0.01}}
        space = {"ablation": {**SPACE["ablation"], "arms": arms}}
        jobs, rows = self.run(make_small_plan(deterministic=True, space=space))
        assert [job.tags["arm"] for job in jobs] == ["cont", "cont"]
        assert sum(row.superseded is not None for row in rows.values()) == 2
        jobs, rows = self.run(make_small_plan(deterministic=True))
        assert jobs == []
        assert essence(counting(rows, "ablation")) == essence(counting(before, "ablation"))

    def test_interrupted_trial_of_an_arm_that_was_taken_out_is_given_up(
        self, make_small_plan: MakePlan
    ) -> None:
        interrupt_at("acmnet", make_small_plan(deterministic=True))
        arms = {name: arm for name, arm in SPACE["ablation"]["arms"].items() if name != "acmnet"}
        space = {"ablation": {**SPACE["ablation"], "arms": arms}}
        jobs, rows = self.run(make_small_plan(deterministic=True, space=space))
        assert all(job.tags.get("arm") != "acmnet" for job in jobs)
        assert all(row.status not in ("running", "waiting") for row in rows.values())


def winner_settings(rows: Mapping[int, Row]) -> set[str]:
    """Return the settings of the ablation's full arm, which are the winner's."""
    return {str(row.parameters) for row in counting(rows, "ablation").values() if row.cell.arm == "FSD+LCS"}


def counting(rows: Mapping[int, Row], phase: str) -> dict[int, Row]:
    """Return the fine-tunings of a phase that count."""
    return {
        trial: row
        for trial, row in rows.items()
        if row.superseded is None and row.cell.phase == phase and row.cell.stage == "finetune"
    }


def test_finished_study_has_nothing_left(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    rows = finished(plan)
    agenda, ledger = open_agenda(plan)
    assert agenda.next_job() is None
    assert agenda.done
    assert repr(ledger.rows) == repr(rows)
