import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from study import estimate
from study.assembly import make_setup
from study.estimate import count_trials, estimate_cost, estimate_disk
from study.plan import Plan
from study.trial import run_trial
from tests.study.pretended import open_agenda

MakePlan = Callable[..., Plan]


def test_counts_are_those_of_the_design(make_small_plan: MakePlan) -> None:
    counts = count_trials(make_small_plan())
    assert (counts.search_trials, counts.confirm_trials, counts.ablation_trials) == (12, 4, 6)
    assert counts.pretrains == 6
    assert counts.finetunes == 22


def test_cost_is_what_the_stages_take(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    cost = estimate_cost(plan, concurrency=2)
    pretrain, finetune = cost.stages
    assert (pretrain.name, finetune.name, finetune.epochs) == ("pretrain", "finetune", 3)
    assert cost.seconds == pytest.approx((6 * pretrain.seconds + 22 * finetune.seconds) / 2)
    assert 0 < finetune.seconds < 30
    console = Console(width=100)
    with console.capture() as capture:
        console.print(cost.render())
    assert "12  search trials, of 6 proposals" in capture.get()
    assert not Path(plan.out).exists()


def test_disk_is_what_a_study_leaves(make_small_plan: MakePlan) -> None:
    """Against the files of real trials: one pretraining and one fine-tuning."""
    plan = make_small_plan()
    agenda, ledger = open_agenda(plan)
    setup = make_setup(plan, [0.0, 0.0], 1)
    while (job := agenda.next_job()) is not None and len(ledger.rows) <= 12:
        run_trial(job, setup, agenda.take)
    disk = estimate_disk(plan, concurrency=1, kept=0)
    assert plan.store.local is not None
    left = [path.stat().st_size for path in plan.store.local.rglob("*.pt")]
    per_trial = sum(left) / sum(row.status == "complete" for row in ledger.rows.values())
    assert 0.5 < disk.bytes / (28 * (per_trial + 100_000)) < 2


def test_trials_that_are_there_cost_nothing_more(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    whole, half = (estimate_disk(plan, concurrency=2, kept=kept) for kept in (0, 14))
    assert half.bytes - half.one_round_bytes == pytest.approx((whole.bytes - whole.one_round_bytes) / 2)


def test_long_epochs_are_not_run_to_their_end(
    make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "_LOOK_S", 0.5)
    plan = make_small_plan(space={"fixed": {"finetune.epochs": 3, "finetune.num_pairs": 100_000}})
    started_s = time.monotonic()
    cost = estimate_cost(plan, concurrency=1)
    assert time.monotonic() - started_s < 20
    # 3 epochs of 2 x 100 000 pairs in steps of 8.
    assert cost.stages[-1].seconds > 60
