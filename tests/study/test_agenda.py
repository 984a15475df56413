"""The order of work, driven by pretended workers: counts, waiting, stopping, crashes, timing."""

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from study.ledger import FILE_NAME
from study.phases import StudyError
from study.plan import Plan
from study.rows import Row
from study.search import Proposals
from tests.study.pretended import SPACE, PretendedWorkers, open_agenda

MakePlan = Callable[..., Plan]

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


def test_every_prefix_of_the_journal_ends_in_the_same_study(
    make_small_plan: MakePlan, tmp_path: Path
) -> None:
    """The driver may die between any two lines that it writes."""
    plan = make_small_plan(deterministic=True)
    whole = essence(finished(plan, concurrency=3))
    lines = (plan.out / FILE_NAME).read_bytes().splitlines(keepends=True)
    for kept in range(0, len(lines), 5):
        cut = make_small_plan(deterministic=True, out=tmp_path / f"cut{kept}")
        cut.out.mkdir()
        (cut.out / FILE_NAME).write_bytes(b"".join(lines[:kept]))
        assert essence(finished(cut)) == whole, f"after line {kept}"


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


def test_search_without_a_complete_proposal_ends_with_words(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    agenda, _ = open_agenda(plan)
    workers = PretendedWorkers(plan, 0, 2)
    workers.fails = lambda job: job.stage == 1
    with pytest.raises(StudyError, match="no proposal"):
        workers.run(agenda)


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
        plan = make_small_plan(deterministic=True, out=tmp_path_factory.mktemp("study") / "out")
        return essence(finished(plan, seed=order, concurrency=slots))

    assert run(seed, concurrency) == run(0, 1)


@expensive
@given(crashes=st.lists(st.integers(0, 40), min_size=1, max_size=4), concurrency=st.integers(1, 4))
def test_crashes_lose_and_repeat_nothing(
    make_small_plan: MakePlan,
    tmp_path_factory: pytest.TempPathFactory,
    crashes: list[int],
    concurrency: int,
) -> None:
    """The driver dies after so many news, again and again; each time a new one opens the ledger."""
    plan = make_small_plan(deterministic=True, out=tmp_path_factory.mktemp("study") / "out")
    for max_news in crashes:
        agenda, _ = open_agenda(plan)
        PretendedWorkers(plan, max_news, concurrency).run(agenda, max_news=max_news)
    agenda, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, 0, concurrency).run(agenda) and agenda.done

    whole = make_small_plan(deterministic=True, out=tmp_path_factory.mktemp("study") / "out")
    assert essence(ledger.rows) == essence(finished(whole))


def test_trial_of_a_dead_worker_is_handed_out_again(make_small_plan: MakePlan) -> None:
    plan = make_small_plan(deterministic=True)
    agenda, ledger = open_agenda(plan)
    job = agenda.next_job()
    assert job is not None
    agenda.put_back(job.trial)
    assert agenda.next_job() == job
    agenda.put_back(job.trial)
    assert PretendedWorkers(plan, 0, 2).run(agenda) and agenda.done
    assert len(ledger.rows) == 12 + 4 + 6 + 6


def test_finished_study_has_nothing_left(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    rows = finished(plan)
    agenda, ledger = open_agenda(plan)
    assert agenda.next_job() is None
    assert agenda.done
    assert repr(ledger.rows) == repr(rows)
