"""What every storage of a ledger has to do; a test class for each storage inherits it.

The class gives the fixture `location`, a place that no other test writes to.
"""

import contextlib
import datetime
import itertools
import json
import math
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage

from study.failures import Failure
from study.ledger import Ledger
from study.ledger_storage import LedgerBusy, LedgerLocation, hold, open_storage
from study.rows import Cell, Row

CELL = Cell("search", "finetune", seed=3, proposal=0, pretrain_key="ab12")
FAILURE = Failure(
    "timeout", "hung", 1, epoch=1, lost_s=2.5, action="retry", host="a", at="2026-01-01T00:00:00Z"
)
HOSTILE = "Übergröße 🦙 'quotes' \"double\" back\\slash %s {0} null\0 line\nend \ud800"
NOW = datetime.datetime(2026, 1, 1, 12, 0, 0, 123456, tzinfo=datetime.UTC)
ROOT = Path(__file__).parents[2]
WRITES = (
    "create_new_study",
    "create_new_trial",
    "set_study_user_attr",
    "set_trial_user_attr",
    "set_trial_state_values",
)


@contextlib.contextmanager
def opened(location: LedgerLocation, study_id: str) -> Iterator[Ledger]:
    """Open a ledger as a driver does."""
    with hold(location, study_id) as held:
        yield Ledger(open_storage(location, held), study_id)


def read(location: LedgerLocation, study_id: str) -> dict[int, Row]:
    """Return what a new driver finds."""
    with opened(location, study_id) as ledger:
        return ledger.rows


class Killed(BaseException):
    """The driver dies here."""


def die_after(storage: BaseStorage, writes: int) -> None:
    """Let a storage take some writes and no more."""
    left = itertools.count(writes, -1)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **kwargs: Any) -> Any:
            if next(left) <= 0:
                raise Killed
            return call(*args, **kwargs)

        return write

    for name in WRITES:
        setattr(storage, name, counted(getattr(storage, name)))


# A life of two trials: everything that a ledger is told.
LIFE: tuple[Callable[[Ledger], Any], ...] = (
    lambda ledger: ledger.start(CELL, {"finetune.lambda_fsd": 0.5, "finetune.alignment": "dp"}),
    lambda ledger: ledger.start(Cell("ablation", "pretrain", seed=4, arm="FSD+LCS"), {}),
    lambda ledger: ledger.record_epoch(0, 1, {"loss/total": 1.25, "validation/mAP": math.nan}, "a"),
    lambda ledger: ledger.record_epoch(0, 2, {"loss/total": 0.1}, "a"),
    lambda ledger: ledger.record_failure(0, FAILURE),
    lambda ledger: ledger.set_waiting(0),
    lambda ledger: ledger.begin_attempt(0),
    lambda ledger: ledger.record_resumed(0, 2, 1),
    lambda ledger: ledger.record_epoch(0, 3, {"loss/total": 1e-308, "validation/mAP": math.inf}, "a"),
    lambda ledger: ledger.end(0, "complete", result={"metrics": {"mAP": 12.5}}, value=12.5),
    lambda ledger: ledger.end(1, "failed", failure="NaN loss", failure_kind="non_finite", host="b"),
    lambda ledger: ledger.supersede(1, "retried"),
    lambda ledger: ledger.supersede(1, None),
)


class LedgerContract:
    @pytest.fixture
    def study_id(self) -> str:
        return uuid.uuid4().hex

    @pytest.fixture(autouse=True)
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("study.ledger._now", lambda: NOW)

    def test_rows_are_the_same_when_reopened_after_every_step(
        self, location: LedgerLocation, study_id: str
    ) -> None:
        with opened(location, study_id) as ledger:
            for step in LIFE:
                step(ledger)
                # NaN is unequal to itself, so rows are compared as text.
                assert repr(read_while_held(location, study_id)) == repr(ledger.rows)

    def test_writes_of_a_block_are_those_of_single_calls(
        self, location: LedgerLocation, study_id: str
    ) -> None:
        with opened(location, f"{study_id}/single") as single:
            for step in LIFE:
                step(single)
        with opened(location, study_id) as ledger:
            for steps in (LIFE[:4], LIFE[4:]):
                with ledger.together(), ledger.together():
                    for step in steps:
                        step(ledger)
                assert repr(read_while_held(location, study_id)) == repr(ledger.rows)
        assert repr(ledger.rows) == repr(single.rows)

    def test_life_of_a_trial_is_on_record(self, location: LedgerLocation, study_id: str) -> None:
        with opened(location, study_id) as ledger:
            for step in LIFE:
                step(ledger)
        row, other = read(location, study_id).values()
        assert (row.trial, row.cell, row.status, row.host, row.attempts) == (0, CELL, "complete", "a", 2)
        assert row.parameters == {"finetune.lambda_fsd": 0.5, "finetune.alignment": "dp"}
        assert row.result == {"metrics": {"mAP": 12.5}}
        assert list(row.epochs) == [1, 2, 3]
        assert row.epochs[2] == {"loss/total": 0.1}
        assert row.epochs[3] == {"loss/total": 1e-308, "validation/mAP": math.inf}
        assert math.isnan(row.epochs[1]["validation/mAP"])
        assert (row.failures, row.resumed, row.repeated_epochs) == ((FAILURE,), {2: 1}, 0)
        assert (row.started_at, row.ended_at) == (NOW, NOW)
        assert (other.status, other.failure, other.failure_kind) == ("failed", "NaN loss", "non_finite")
        assert (other.host, other.ended_at, other.superseded) == ("b", NOW, None)

    @pytest.mark.situation(
        "kill",
        "the driver is killed between two writes to its ledger",
        "the change is on record as a whole or not at all; the same command continues from there",
    )
    def test_driver_may_die_between_any_two_writes(self, location: LedgerLocation, study_id: str) -> None:
        states = ["{}"]
        with opened(location, study_id) as ledger:
            for step in LIFE:
                step(ledger)
                states.append(repr(ledger.rows))
        for survived in itertools.count():
            name = f"{study_id}/{survived}"
            done = 0
            with contextlib.suppress(Killed), hold(location, name) as held:
                storage = open_storage(location, held)
                die_after(storage, survived)
                ledger = Ledger(storage, name)
                for step in LIFE:
                    step(ledger)
                    done += 1
            found = repr(read(location, name))
            # Of an epoch, the host may be known already; of a further attempt, that it runs.
            halfway = [
                found.replace("host='a'", "host=None"),
                found.replace("status='running'", "status='waiting'", 1),
            ]
            assert found in states[done : done + 2] or states[done] in halfway, f"after {survived} writes"
            with opened(location, name) as ledger:
                for step in LIFE[done:]:
                    if repr(ledger.rows) != states[done + 1]:
                        step(ledger)
                    done += 1
            assert repr(ledger.rows) == states[-1], f"after {survived} writes"
            if found == states[-1]:
                break

    def test_first_end_stands(self, location: LedgerLocation, study_id: str) -> None:
        with opened(location, study_id) as ledger:
            ledger.start(CELL, {})
            ledger.end(0, "stopped")
            ledger.end(0, "complete", result={"metrics": {}}, value=1.0)
            ledger.record_epoch(0, 1, {"loss/total": 1.0}, "a")
            ledger.record_resumed(0, 2, 1)
            assert repr(read_while_held(location, study_id)) == repr(ledger.rows)
        row = read(location, study_id)[0]
        assert (row.status, row.epochs, row.resumed) == ("stopped", {}, {})

    def test_epoch_told_twice_is_kept_as_it_was(self, location: LedgerLocation, study_id: str) -> None:
        with opened(location, study_id) as ledger:
            ledger.start(CELL, {})
            ledger.record_epoch(0, 1, {"loss/total": 1.0}, "a")
            ledger.record_epoch(0, 1, {"loss/total": 2.0}, "b")
        row = read(location, study_id)[0]
        assert (row.epochs, row.host) == ({1: {"loss/total": 1.0}}, "a")

    def test_trial_waits_and_comes_back(self, location: LedgerLocation, study_id: str) -> None:
        with opened(location, study_id) as ledger:
            ledger.start(CELL, {})
            for attempt in (2, 3):
                assert ledger.set_waiting(0).status == "waiting"
                assert ledger.set_waiting(0).status == "waiting"
                row = ledger.begin_attempt(0)
                assert (row.status, row.attempts) == ("running", attempt)
            assert ledger.begin_attempt(0).attempts == 4  # its worker died
            ledger.set_waiting(0)
        row = read(location, study_id)[0]
        assert (row.status, row.attempts, row.started_at) == ("waiting", 4, NOW)

    def test_waiting_trial_can_end(self, location: LedgerLocation, study_id: str) -> None:
        with opened(location, study_id) as ledger:
            ledger.start(CELL, {})
            ledger.set_waiting(0)
            ledger.end(0, "failed", failure="given up", failure_kind="cancelled")
        assert read(location, study_id)[0].failure_kind == "cancelled"

    def test_ended_trial_is_superseded_and_returns(self, location: LedgerLocation, study_id: str) -> None:
        with opened(location, study_id) as ledger:
            ledger.start(CELL, {})
            ledger.end(0, "complete", value=1.0)
            ledger.supersede(0, "the recipe has changed")
        assert read(location, study_id)[0].superseded == "the recipe has changed"
        with opened(location, study_id) as ledger:
            ledger.supersede(0, None)
        assert read(location, study_id)[0].superseded is None

    @pytest.mark.parametrize("text", [HOSTILE, "x" * 1_000_000], ids=["hostile", "long"])
    def test_any_text_is_kept(self, location: LedgerLocation, study_id: str, text: str) -> None:
        with opened(location, study_id) as ledger:
            ledger.start(Cell("ablation", "finetune", 1, arm=text), {"finetune.alignment": text})
            ledger.record_epoch(0, 1, {text[:1000]: 1.0}, text)
            ledger.record_failure(0, Failure("code_error", text, 1, 1, 0.0, "never", text, "now"))
            ledger.end(0, "failed", failure=text, failure_kind="code_error", result={text: [text]})
            ledger.supersede(0, text)
        row = read(location, study_id)[0]
        assert row == ledger.rows[0]
        assert (row.cell.arm, row.failure, row.failures[0].message, row.superseded) == (text,) * 4

    @pytest.mark.parametrize("value", [None, math.nan, math.inf, -1e300, 0.1])
    def test_any_objective_is_taken(
        self, location: LedgerLocation, study_id: str, value: float | None
    ) -> None:
        with opened(location, study_id) as ledger:
            ledger.start(CELL, {})
            ledger.end(0, "complete", result={"metrics": {"objective": value}}, value=value)
        assert repr(read(location, study_id)) == repr(ledger.rows)
        study = optuna.load_study(study_name=f"{study_id}/trials", storage=open_storage(location))
        expected = 0.0 if value is None or math.isnan(value) else value
        assert [trial.value for trial in study.trials] == [expected]

    def test_studies_share_a_storage(self, location: LedgerLocation, study_id: str) -> None:
        names = [f"{study_id}/{side}" for side in "ab"]
        with opened(location, names[0]) as first:
            first.start(CELL, {})
        with opened(location, names[1]) as second:
            second.start(CELL, {"finetune.epochs": 3})
            second.start(CELL, {})
            second.end(0, "stopped")
        with opened(location, names[0]) as first:
            first.start(CELL, {})
            first.record_epoch(1, 1, {"loss/total": 1.0}, "a")
        assert [row.status for row in read(location, names[0]).values()] == ["running"] * 2
        assert [row.status for row in read(location, names[1]).values()] == ["stopped", "running"]
        assert read(location, names[1])[1].epochs == {}

    def test_rows_are_read_with_optuna_while_a_driver_writes(
        self, location: LedgerLocation, study_id: str
    ) -> None:
        found: list[int] = []
        failed: list[BaseException] = []
        ended = threading.Event()

        def look() -> None:
            try:
                storage = open_storage(location)
                while not ended.is_set():
                    study = optuna.load_study(study_name=f"{study_id}/trials", storage=storage)
                    found.append(len(study.trials[0].user_attrs))
            except BaseException as error:
                failed.append(error)

        with opened(location, study_id) as ledger:
            ledger.start(CELL, {})
            reader = threading.Thread(target=look)
            reader.start()
            epoch = 0
            while (len(set(found)) < 3 or epoch < 30) and not failed:
                epoch += 1
                ledger.record_epoch(0, epoch, {"loss/total": 1.0}, "a")
            ended.set()
            reader.join()
        assert not failed
        assert found == sorted(found)
        assert len(read(location, study_id)[0].epochs) == epoch

    @pytest.mark.situation(
        "kill",
        "the driver is killed with SIGKILL while it writes its ledger",
        "what the ledger had confirmed is there once, and another driver may continue at once",
    )
    def test_killed_driver_loses_nothing_and_lets_go(self, location: LedgerLocation, study_id: str) -> None:
        confirmed = 0
        for _ in range(2):
            with driver(location, study_id) as child:
                assert child.stdout is not None
                for _ in range(7):
                    confirmed = int(child.stdout.readline())
                child.send_signal(signal.SIGKILL)
                confirmed = max([confirmed, *(int(line) for line in child.stdout if line.endswith("\n"))])
            epochs = read(location, study_id)[0].epochs
            assert list(epochs) == list(range(1, len(epochs) + 1))
            assert len(epochs) in (confirmed, confirmed + 1)

    @pytest.mark.situation(
        "environment",
        "a second driver is started on a study that runs",
        "the second is refused and told which process on which machine runs it since when",
    )
    def test_second_driver_is_refused(self, location: LedgerLocation, study_id: str) -> None:
        with driver(location, study_id) as child:
            assert child.stdout is not None
            child.stdout.readline()
            with pytest.raises(LedgerBusy, match=rf"process {child.pid} on \S+, since 20\S+, runs the study"):
                read(location, study_id)
            child.kill()
            child.wait()
        assert read(location, study_id)[0].status == "running"

    def test_another_study_of_the_storage_is_free(self, location: LedgerLocation, study_id: str) -> None:
        if location.kind == "journal":
            return  # one file is one study
        with hold(location, f"{study_id}/a"), hold(location, f"{study_id}/b"):
            pass

    def test_hold_is_given_back(self, location: LedgerLocation, study_id: str) -> None:
        for _ in range(2):
            with hold(location, study_id) as held:
                held.check()
                assert held.notes == []
                with pytest.raises(LedgerBusy), hold(location, study_id):
                    pass

    def test_nothing_shows_a_password(self, location: LedgerLocation) -> None:
        if location.kind != "postgresql":
            return
        found = re.search(r":([^:@]+)@", location.url)
        assert found is not None
        assert found[1] not in repr(location) + str(location) + location.shown


def read_while_held(location: LedgerLocation, study_id: str) -> dict[int, Row]:
    """Return what a reader finds while a driver runs."""
    return Ledger(open_storage(location), study_id).rows


_DRIVER = """
import json, sys
from pathlib import Path
from study.ledger import Ledger
from study.ledger_storage import LedgerLocation, hold, open_storage
from study.rows import Cell

told = json.loads(sys.stdin.readline())
path = told["location"].pop("path")
location = LedgerLocation(path=path and Path(path), **told["location"])
with hold(location, told["study_id"]) as held:
    ledger = Ledger(open_storage(location, held), told["study_id"])
    row = ledger.rows[0] if ledger.rows else ledger.start(Cell("search", "finetune", 1), {})
    for epoch in range(row.last_epoch + 1, 100_000):
        ledger.record_epoch(0, epoch, {"loss/total": 1.0}, "a")
        print(epoch, flush=True)
"""


@contextlib.contextmanager
def driver(location: LedgerLocation, study_id: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that holds a study and records epoch after epoch, each told when it is confirmed."""
    command = [sys.executable, "-c", _DRIVER]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        told = {"location": {**vars(location), "path": location.path and str(location.path)}}
        child.stdin.write(json.dumps({**told, "study_id": study_id}) + "\n")
        child.stdin.flush()
        try:
            yield child
        finally:
            child.kill()
