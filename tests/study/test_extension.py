"""More of the same study, and no more than that."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from study.job import Job
from study.plan import Plan
from study.rows import Row
from tests.study.agendas import counting, essence, interrupt_at
from tests.study.pretended import SPACE, PretendedWorkers, open_agenda

MakePlan = Callable[..., Plan]
situation = pytest.mark.situation


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


def test_result_that_was_retried_counts_again_when_it_is_wanted_again(make_small_plan: MakePlan) -> None:
    def run(fails: bool = False, **options: Any) -> int:
        plan = make_small_plan(deterministic=True, **options)
        agenda, _ = open_agenda(plan)
        workers = PretendedWorkers(plan, 0, 2, fails=lambda job: fails and job.tags.get("arm") == "FSD+LCS")
        assert workers.run(agenda)
        return len(workers.jobs)

    arms = {**SPACE["ablation"]["arms"], "FSD+LCS": {"finetune.fsd_len": 4}}
    run(fails=True)
    assert run(retry_failed=True) == 2
    assert run(space={"ablation": {**SPACE["ablation"], "arms": arms}}) == 2
    assert run() == 0


def winner_settings(rows: Mapping[int, Row]) -> set[str]:
    """Return the settings of the ablation's full arm, which are the winner's."""
    return {str(row.parameters) for row in counting(rows, "ablation").values() if row.cell.arm == "FSD+LCS"}
