"""Pretrained models that are lost, and what waits for them."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from study.plan import Plan
from tests.study.agendas import essence, finished, interrupt_at
from tests.study.pretended import SPACE, PretendedWorkers, open_agenda

MakePlan = Callable[..., Plan]
situation = pytest.mark.situation


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
