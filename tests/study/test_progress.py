import datetime
import io
import random
import re
import time
from collections import Counter
from dataclasses import replace

import pytest
from rich.console import Console

from study.progress import LiveDisplay, PlainDisplay, Tally, make_display, show_duration
from study.rows import Cell, Row

STARTED = datetime.datetime(2026, 3, 1, 12, 0, 0)
OBJECTIVE = "validation/mAP@0.5"
PRETRAIN = Row(0, Cell("search", "pretrain", 3000, pretrain_key="ab"), {}, "running", STARTED)
SEARCH = Row(1, Cell("search", "finetune", 3000, proposal=4, pretrain_key="ab"), {}, "running", STARTED)
ARM = Row(2, Cell("ablation", "finetune", 0, arm="+FSD", pretrain_key="ab"), {}, "running", STARTED)


def tally() -> Tally:
    totals = {"pretrain": 2, "search": 4, "confirm": 0, "ablation": 2}
    return Tally(totals, OBJECTIVE, "max", concurrency=2, last_stage="finetune")


def complete(row: Row, value: float, seconds: float) -> Row:
    ended_at = STARTED + datetime.timedelta(seconds=seconds)
    result = {"metrics": {OBJECTIVE: value}, "last_lap": {"wall_s": seconds}}
    return replace(row, status="complete", ended_at=ended_at, result=result)


def test_tally_counts_by_phase_and_knows_the_best() -> None:
    counted = tally()
    for row in (complete(PRETRAIN, 10.0, 4.0), complete(SEARCH, 42.0, 6.0), ARM):
        counted.note(row)
    assert counted.counts()["pretrain"] == Counter(complete=1)
    assert counted.counts()["ablation"] == Counter(running=1)
    best = counted.best()
    assert best is not None and best[0] == 42.0
    assert counted.shared() == 1
    # 1 pretraining of 4 s, 3 + 2 fine-tunings of 6 s, two at a time.
    assert counted.seconds_left() == (1 * 4 + 5 * 6) / 2


def test_live_table_leaves_out_what_a_study_has_none_of() -> None:
    screen = Console(file=io.StringIO(), width=100)
    totals = {"pretrain": 0, "search": 0, "confirm": 0, "ablation": 2}
    screen.print(LiveDisplay(screen, Tally(totals, OBJECTIVE, "max", 1, "pretrain")).render())
    text = screen.file.getvalue()
    assert "ablation" in text
    assert all(word not in text for word in ("search", "confirm", "pretrain", "shared"))


def test_tally_is_what_its_last_rows_say_whatever_came_before() -> None:
    """What is kept from note to note equals a count from the beginning."""
    chance = random.Random(0)
    counted, last = tally(), {}
    for _ in range(300):
        row = chance.choice((PRETRAIN, SEARCH, ARM, replace(SEARCH, trial=3), replace(SEARCH, trial=4)))
        if chance.random() < 0.7:
            row = complete(row, chance.random(), chance.randint(1, 9))
        if chance.random() < 0.3:
            row = replace(row, superseded="other settings are wanted")
        counted.note(row)
        last[row.trial] = row
        fresh = tally()
        for row in last.values():
            fresh.note(row)
        for name in ("counts", "ended", "total", "shared"):
            assert getattr(counted, name)() == getattr(fresh, name)()
        assert (counted.best() or (None,))[0] == (fresh.best() or (None,))[0]
        assert counted.seconds_left() == pytest.approx(fresh.seconds_left())


def test_plain_display_prints_a_line_per_event() -> None:
    console = Console(file=io.StringIO(), width=60)
    display = make_display(console, tally())
    assert isinstance(display, PlainDisplay)
    with display:
        display.started(SEARCH)
        display.ended(complete(SEARCH, 42.0, 6.0))
        display.ended(replace(ARM, status="failed", failure="out of memory", ended_at=STARTED))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.splitlines() == [
        "[  0/8] start    trial 1: finetune, proposal 4, seed 3000",
        "[  1/8] complete trial 1: finetune, proposal 4, seed 3000: validation/mAP@0.5 42.0",
        "[  2/8] failed   trial 2: finetune, +FSD, seed 0: out of memory",
    ]


def test_live_display_draws_counts_best_and_time() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100, color_system=None)
    display = make_display(console, tally())
    assert isinstance(display, LiveDisplay)
    display.started(ARM)
    display.ended(complete(SEARCH, 42.0, 6.0))
    with console.capture() as capture:
        console.print(display.render())
    text = capture.get()
    assert "▸ ablation" in text
    assert "best validation/mAP@0.5 42.0 (proposal 4)" in text
    assert "left" in text


def test_durations_are_written_for_a_reader() -> None:
    assert [show_duration(s) for s in (5.9, 65, 3700)] == ["5 s", "1 min 05 s", "1 h 01 min"]


def test_lines_say_once_a_minute_why_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.StringIO()
    display = PlainDisplay(Console(file=shown, width=200), tally())
    now_s = time.monotonic()
    for passed_s, text in (
        (0, "waiting 1"),
        (5, "waiting 2"),
        (61, "waiting 3"),
        (62, None),
        (63, "waiting 4"),
    ):
        monkeypatch.setattr(time, "monotonic", lambda at_s=now_s + passed_s: at_s)
        display.waits(text)
    assert re.findall("waiting .", shown.getvalue()) == ["waiting 1", "waiting 3", "waiting 4"]


def test_live_table_shows_why_nothing_runs() -> None:
    shown = io.StringIO()
    console = Console(file=shown, width=120)
    display = LiveDisplay(console, tally())
    display.waits("waiting for nodes since 5 min")
    console.print(display.render())
    display.waits(None)
    console.print(display.render())
    assert shown.getvalue().count("waiting for nodes since 5 min") == 1
