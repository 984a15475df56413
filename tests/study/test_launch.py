"""What a launch does before and after the trials: opening, refusing, showing again. Without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from rich.console import Console

from study import launch
from study.job import News
from study.ledger_location import FILE_NAME, LedgerBusy, LedgerError, LedgerLost
from study.ledger_storage import hold
from study.phases import StudyError
from study.plan import Plan
from study.records import MANIFEST, TRIALS, read_manifest, read_table, write_json, write_tables
from study.stopping import Stops
from tests.study.pretended import STUDY_ID, PretendedWorkers, open_agenda

MakePlan = Callable[..., Plan]
situation = pytest.mark.situation
QUIET = Console(quiet=True)


@pytest.fixture
def finished(make_small_plan: MakePlan) -> Plan:
    """A study that is finished, with its tables."""
    plan = make_small_plan()
    agenda, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, 0, 2).run(agenda)
    agenda.close()
    write_tables(plan.store, ledger.rows.values())
    done = {"id": STUDY_ID, "finished": True, "trials": len(ledger.rows), "launches": [{"versions": {}}]}
    write_json(plan.store, MANIFEST, {**plan.manifest, **done})
    return make_small_plan()


def test_finished_study_is_shown_again_without_ray(finished: Plan) -> None:
    finished.store.delete(TRIALS)
    outcome = launch.run(finished, QUIET)
    assert outcome.finished and outcome.trials["complete"] > 0
    assert read_table(finished.store, TRIALS).num_rows == 28


@situation(
    "storage",
    "the ledger of a study was removed, or emptied",
    "nothing is run or written: the message asks to restore it, and the tables stay as they are",
)
@pytest.mark.parametrize("content", [None, b""], ids=["removed", "emptied"])
def test_lost_ledger_is_named_and_tables_stay(
    finished: Plan, make_small_plan: MakePlan, content: bytes | None
) -> None:
    path = Path(finished.out) / FILE_NAME
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    before = finished.store.read(TRIALS)
    for _ in range(2):
        with pytest.raises(LedgerError, match="was removed or replaced"):
            launch.run(make_small_plan(), QUIET)
    assert finished.store.read(TRIALS) == before


@situation(
    "storage",
    "the ledger of a finished study has lost its last lines",
    "what they told is run again, from the checkpoints where there are some",
)
def test_cut_ledger_of_a_finished_study_is_made_whole(
    finished: Plan, make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(finished.out) / FILE_NAME
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-20]))

    def run_without_ray(plan: Plan, *_: object) -> None:
        agenda, _ = open_agenda(plan)
        assert PretendedWorkers(plan, 0, 2).run(agenda)

    monkeypatch.setattr(launch, "_run_trials", run_without_ray)
    said = Console(record=True, quiet=False, file=None, width=200)
    launch.run(make_small_plan(), said)
    assert "has lost what it had of" in said.export_text()
    agenda, ledger = open_agenda(make_small_plan())
    assert agenda.next_job() is None and agenda.done
    assert len(ledger.rows) == 28


@situation(
    "kill",
    "the driver is killed while Ray starts, before the first trial of a new study",
    "the same command begins the study",
)
def test_kill_before_the_first_trial_does_not_block_the_next(make_small_plan: MakePlan) -> None:
    plan = make_small_plan()
    Path(plan.out).mkdir()
    with hold(plan.ledger, plan.study_id) as held:  # all that is there when Ray starts
        launch._open_ledger(plan, held)
    again = make_small_plan()
    assert not again.is_new and again.study_id == plan.study_id
    with hold(again.ledger, again.study_id) as held:
        assert launch._open_ledger(again, held).rows == {}


@situation(
    "kill",
    "a new study cannot start (Ray does not come up, or has too few GPUs)",
    "the message says so, and nothing is left in --out",
)
def test_start_that_fails_leaves_nothing(make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise launch.LaunchError("no Ray")

    monkeypatch.setattr(launch, "_run_trials", fail)
    plan = make_small_plan()
    with pytest.raises(launch.LaunchError):
        launch.run(plan, QUIET)
    assert not Path(plan.out).exists()


def test_ledger_that_cannot_be_used_leaves_nothing(make_small_plan: MakePlan, tmp_path: Path) -> None:
    """Or the command with the right ledger would ask for another study than is there."""
    (tmp_path / "notes.txt").write_text("not a database, and long enough to have a header of one\n" * 40)
    plan = make_small_plan(ledger=f"sqlite:///{tmp_path}/notes.txt")
    with pytest.raises(LedgerError, match="not a database"):
        launch.run(plan, QUIET)
    assert not Path(plan.out).exists()
    assert make_small_plan(ledger=f"sqlite:///{tmp_path}/ledger.db").is_new


def test_ledger_that_is_lost_where_it_is_opened_ends_the_launch_in_words(
    make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise LedgerLost("the disk is full")

    monkeypatch.setattr(launch, "Ledger", lose)
    plan = make_small_plan()
    with pytest.raises(StudyError, match="disk is full"):
        launch.run(plan, QUIET)
    assert not Path(plan.out).exists()


def test_ledger_that_is_lost_ends_the_launch_in_words(
    make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose(*_: object) -> None:
        raise LedgerLost("the server does not answer")

    monkeypatch.setattr(launch, "_run_trials", lose)
    with pytest.raises(StudyError, match="does not answer"):
        launch.run(make_small_plan(), QUIET)


class Stopped:
    """How a launch was stopped."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def test_disk_that_was_full_in_an_earlier_launch_is_not_why_this_one_stopped(
    make_small_plan: MakePlan,
) -> None:
    plan = make_small_plan()
    agenda, ledger = open_agenda(plan)
    job = agenda.next_job()
    assert job is not None
    full = "checkpoints/1.pt: No space left on device"
    agenda.take(News(job.trial, 1, "here", failure=full, kind="disk_full"))
    agenda.close()
    assert "trials that are left need" in str(launch._why_stopped(plan, ledger, cast(Stops, Stopped(full))))
    interrupted = cast(Stops, Stopped("interrupted by Ctrl-C"))
    assert launch._why_stopped(plan, ledger, interrupted) == "interrupted by Ctrl-C"


@situation(
    "environment",
    "the command is given twice at once, and both find no study yet",
    "one begins it; the other is refused, and removes nothing",
)
def test_second_start_at_once_is_refused_and_removes_nothing(make_small_plan: MakePlan) -> None:
    first, second = make_small_plan(), make_small_plan()
    with launch._folder(first), hold(first.ledger, first.study_id) as held:
        launch._open_ledger(first, held)
        with pytest.raises(LedgerBusy, match="runs the study"):
            launch.run(second, QUIET)
        assert read_manifest(first.store)["id"] == first.study_id
        assert (Path(first.out) / FILE_NAME).exists()
    with pytest.raises(launch.LaunchError, match="give the command again"):
        launch.run(second, QUIET)
    assert read_manifest(first.store)["id"] == first.study_id


def test_smaller_numbers_in_the_file_are_said_to_be_ignored(
    finished: Plan, make_small_plan: MakePlan
) -> None:
    plan = make_small_plan(trials=8)
    write_json(plan.store, MANIFEST, plan.manifest)
    lines = make_small_plan().extension.lines
    assert any("6 proposals are fewer than the 8 that the study has" in line for line in lines)
