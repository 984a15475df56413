"""What the command says of failures when a launch ends."""

import datetime
from dataclasses import replace

from rich.console import Console

from study.failures import FIXES, Failure, FailureKind
from study.rows import Cell, Row
from study.summary import find_trouble, trouble_table

NOW = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
ROW = Row(3, Cell("ablation", "finetune", 0, arm="cont"), {}, "complete", NOW)


def failure(kind: FailureKind, lost_s: float = 5.0) -> Failure:
    return Failure(kind, f"about {kind}", 1, 2, lost_s, "retry", "host", "2026-11-21T00:00:00+00:00")


def test_failures_are_told_by_kind_with_their_cost_and_the_fix() -> None:
    rows = [
        replace(ROW, failures=(failure("worker_killed"), failure("worker_killed", 7.5))),
        replace(ROW, trial=4, status="failed", failure_kind="bad_data", failures=(failure("bad_data"),)),
        replace(ROW, trial=5, status="failed", failure_kind="pretrain_failed", failure="trial 4 failed"),
    ]
    first, second, third = find_trouble(rows)
    assert (first.kind, first.trials_failed, first.example) == ("bad_data", 1, "trial 4: about bad_data")
    assert (second.kind, second.attempts, second.trials_failed) == ("pretrain_failed", 1, 1)
    assert (third.kind, third.attempts, third.trials_failed, third.lost_s) == ("worker_killed", 2, 0, 12.5)
    console = Console(width=40)
    with console.capture() as capture:
        console.print(trouble_table([first, second, third]), soft_wrap=True)
    lines = capture.get().splitlines()
    assert lines[:4] == [
        "What failed",
        "  bad_data         once, 1 trial lost, 5 s of work lost",
        "    first: trial 4: about bad_data",
        f"    to do: {FIXES['bad_data']}",
    ]
    assert lines[4:8:3] == [
        "  pretrain_failed  once, 1 trial lost",
        "  worker_killed    2 times, 12 s of work lost",
    ]


def test_interruptions_are_no_trouble() -> None:
    assert find_trouble([replace(ROW, failures=(failure("cancelled"), failure("driver_lost")))]) == []
