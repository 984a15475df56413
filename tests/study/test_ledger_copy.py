"""Copies of a ledger file beside results on object storage."""

import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rich.console import Console

from study import launch
from study.ledger import Ledger, is_in
from study.ledger_copy import COPY, LedgerCopies, is_copied
from study.ledger_storage import LedgerError, hold, open_storage
from study.plan import Plan
from study.records import MANIFEST, write_json
from study.rows import Cell

MakePlan = Callable[..., Plan]
PlanAgain = Callable[..., Plan]
QUIET = Console(quiet=True)


@pytest.fixture
def plan_again(make_small_plan: MakePlan, tmp_path: Path) -> PlanAgain:
    """Return a function that plans one study with results in memory and an SQLite ledger."""
    where = {"out": f"memory://{secrets.token_hex(4)}/out", "ledger": f"sqlite:///{tmp_path}/ledger.db"}

    def plan(**options: str) -> Plan:
        return make_small_plan(**{**where, **options})

    return plan


@pytest.fixture
def begun(plan_again: PlanAgain) -> Plan:
    """A study with one trial in its ledger, of which there is a copy."""
    plan = plan_again()
    write_json(plan.store, MANIFEST, {**plan.manifest, "launches": [{"versions": {}}]})
    with (
        LedgerCopies(plan.ledger, plan.study_id, plan.store, pytest.fail),
        hold(plan.ledger, plan.study_id) as held,
    ):
        Ledger(open_storage(plan.ledger, held), plan.study_id).start(Cell("search", "finetune", 3), {"a": 1})
    assert plan.ledger.path is not None
    return plan


def lose(plan: Plan) -> Path:
    assert plan.ledger.path is not None
    plan.ledger.path.unlink()
    return plan.ledger.path


@pytest.mark.situation(
    "storage",
    "the machine that had the SQLite ledger of a study on object storage is gone",
    "the message says that `--resume copy` restores the copy beside the results; what ran since runs again",
)
def test_lost_ledger_is_restored_from_its_copy_when_asked_for(begun: Plan, plan_again: PlanAgain) -> None:
    path = lose(begun)
    with pytest.raises(LedgerError, match="add --resume copy"):
        launch.run(plan_again(), QUIET)
    assert not path.exists()
    plan = plan_again(resume="copy")
    with hold(plan.ledger, plan.study_id) as held:
        ledger = launch._open_ledger(plan, held)
        assert [row.parameters for row in ledger.rows.values()] == [{"a": 1}]
        assert "was restored from" in held.notes[-1]


def test_copy_never_replaces_a_ledger(begun: Plan, plan_again: PlanAgain) -> None:
    with pytest.raises(LedgerError, match="is there; drop --resume copy"):
        launch.run(plan_again(resume="copy"), QUIET)
    assert len(_open(begun).rows) == 1


def test_copy_leaves_other_studies_of_the_file_alone(
    begun: Plan, plan_again: PlanAgain, tmp_path: Path
) -> None:
    with hold(begun.ledger, "other") as held:
        Ledger(open_storage(begun.ledger, held), "other").start(Cell("search", "finetune", 5), {})
    with LedgerCopies(begun.ledger, begun.study_id, begun.store, pytest.fail):
        pass
    elsewhere = plan_again(resume="copy", ledger=f"sqlite:///{tmp_path}/new.db")
    with hold(elsewhere.ledger, elsewhere.study_id) as held:
        assert len(launch._open_ledger(elsewhere, held).rows) == 1
        assert not is_in(open_storage(elsewhere.ledger), "other")
    assert is_in(open_storage(begun.ledger), "other")
    assert elsewhere.manifest["ledger"] == elsewhere.ledger.shown


def test_without_a_copy_there_is_nothing_to_restore(begun: Plan, plan_again: PlanAgain) -> None:
    lose(begun)
    begun.store.delete(COPY)
    with pytest.raises(LedgerError, match="Restore it from a copy"):
        launch.run(plan_again(), QUIET)
    with pytest.raises(LedgerError, match="no copy of the ledger"):
        launch.run(plan_again(resume="copy"), QUIET)


def test_results_beside_the_ledger_need_no_copy(make_small_plan: MakePlan, tmp_path: Path) -> None:
    for options in ({}, {"ledger": f"sqlite:///{tmp_path}/ledger.db"}):
        plan = make_small_plan(**options)
        assert not is_copied(plan.ledger, plan.store)
        with LedgerCopies(plan.ledger, plan.study_id, plan.store, pytest.fail):
            pass
        assert not plan.store.exists(COPY)


def test_copies_are_made_while_the_study_runs(begun: Plan) -> None:
    begun.store.delete(COPY)
    with LedgerCopies(begun.ledger, begun.study_id, begun.store, pytest.fail, every_s=0.01):
        deadline = time.monotonic() + 10
        while not begun.store.exists(COPY):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_copy_that_fails_is_told_and_stops_nothing(begun: Plan) -> None:
    said: list[str] = []
    path = lose(begun)
    with LedgerCopies(begun.ledger, begun.study_id, begun.store, said.append):
        pass
    assert len(said) == 1 and "no copy of the ledger could be made" in said[0]
    assert not path.exists()


def test_copy_is_whole_while_the_ledger_is_written(begun: Plan) -> None:
    ledger = _open(begun)
    with LedgerCopies(begun.ledger, begun.study_id, begun.store, pytest.fail, every_s=0.001):
        for seed in range(30):
            ledger.start(Cell("search", "finetune", seed), {})
    path = lose(begun)
    path.write_bytes(begun.store.read(COPY))
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(_open(begun).rows) == 31


def _open(plan: Plan) -> Ledger:
    return Ledger(open_storage(plan.ledger), plan.study_id)
