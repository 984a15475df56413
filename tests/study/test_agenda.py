"""The order of work, driven by pretended workers: counts, waiting, stopping, crashes, timing."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from study.ledger_location import FILE_NAME
from study.plan import Plan
from study.search import Proposals
from tests.study.agendas import essence, finished
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


def test_a_search_trial_knows_its_rungs_and_no_other_has_any(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    agenda, ledger = open_agenda(plan)
    workers = PretendedWorkers(plan, 0, 2)
    assert workers.run(agenda)
    cells = {job.trial: ledger.rows[job.trial].cell for job in workers.jobs}
    searching = {trial for trial, cell in cells.items() if (cell.phase, cell.stage) == ("search", "finetune")}
    assert {job.rungs for job in workers.jobs if job.trial in searching} == {(1, 2)}
    assert {job.rungs for job in workers.jobs if job.trial not in searching} == {()}


def test_study_is_the_same_when_epochs_that_decide_nothing_are_told_together(
    make_small_plan: MakePlan, tmp_path: Path
) -> None:
    rows, told = [], []
    for tells_each in (True, False):
        plan = make_small_plan(deterministic=True, out=str(tmp_path / f"out-{tells_each}"))
        agenda, ledger = open_agenda(plan)
        workers = PretendedWorkers(plan, 0, 2, tells_each=tells_each)
        assert workers.run(agenda) and agenda.done
        rows.append(essence(ledger.rows))
        told.append(workers.told)
    assert rows[0] == rows[1]
    assert any("stopped" in row for row in rows[0])
    assert told[1] < told[0]


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


def test_finished_study_has_nothing_left(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    rows = finished(plan)
    agenda, ledger = open_agenda(plan)
    assert agenda.next_job() is None
    assert agenda.done
    assert repr(ledger.rows) == repr(rows)
