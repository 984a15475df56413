"""What a study chooses: the winner of a search, the seeds that pass a gate; and when it cannot."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.phases import StudyError
from study.plan import Plan
from tests.study import pretended
from tests.study.agendas import essence, finished
from tests.study.pretended import SPACE, PretendedWorkers, open_agenda

MakePlan = Callable[..., Plan]
situation = pytest.mark.situation

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
    workers = PretendedWorkers(plan, 0, 2, fails=lambda job: job.stage == 0 and job.seed == 1)
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
    workers = PretendedWorkers(plan, 0, 2, fails=lambda job: job.stage == 1)
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
