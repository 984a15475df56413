import time
from collections.abc import Callable

import pytest
from rich.console import Console

from study import estimate
from study.estimate import count_trials, estimate_cost
from study.plan import Plan

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
    assert cost.gigabytes == pytest.approx((6 * pretrain.bytes + 22 * finetune.bytes) / 1e9)
    assert 0 < finetune.seconds < 30
    console = Console(width=100)
    with console.capture() as capture:
        console.print(cost.render())
    assert "12  search trials, of 6 proposals" in capture.get()
    assert not plan.out.exists()


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
