from pathlib import Path

import pytest

from study.ledger import FILE_NAME, Ledger
from study.rows import Cell

CELL = Cell("search", "finetune", seed=3, proposal=0, pretrain_key="ab12")


def test_reopened_ledger_holds_the_same_rows(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first = ledger.start(CELL, {"finetune.lambda_fsd": 0.5})
    second = ledger.start(Cell("search", "pretrain", seed=4, pretrain_key="cd34"), {})
    ledger.record_epoch(first.trial, 1, {"validation/mAP@0.5": 12.5, "loss/total": float("nan")}, "host-a")
    ledger.end(first.trial, "complete", result={"metrics": {"a": 1.0}, "chosen_epoch": 1}, value=12.5)
    ledger.end(second.trial, "failed", failure="out of memory")

    reopened = Ledger(tmp_path)

    # NaN is unequal to itself, so rows are compared as text.
    assert repr(reopened.rows) == repr(ledger.rows)
    row = reopened.rows[first.trial]
    assert (row.status, row.cell, row.host) == ("complete", CELL, "host-a")
    assert row.result["chosen_epoch"] == 1
    assert reopened.rows[second.trial].failure == "out of memory"


def test_first_end_stands(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    trial = ledger.start(CELL, {}).trial
    ledger.end(trial, "stopped")
    ledger.end(trial, "complete", result={"metrics": {}})
    assert Ledger(tmp_path).rows[trial].status == "stopped"


def test_host_is_known_without_any_epoch(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    trial = ledger.start(CELL, {}).trial
    ledger.end(trial, "complete", result={"metrics": {}}, host="node-7")
    assert Ledger(tmp_path).rows[trial].host == "node-7"


def test_epoch_told_twice_is_kept_as_it_was(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    trial = ledger.start(CELL, {}).trial
    ledger.record_epoch(trial, 1, {"loss/total": 1.0}, "a")
    ledger.record_epoch(trial, 1, {"loss/total": 2.0}, "a")
    assert Ledger(tmp_path).rows[trial].epochs == {1: {"loss/total": 1.0}}


@pytest.mark.parametrize("torn", [b'{"op_code": 4, "wor', b"\xff", b"{"])
def test_torn_last_line_is_cut_and_the_ledger_goes_on(tmp_path: Path, torn: bytes) -> None:
    ledger = Ledger(tmp_path)
    trial = ledger.start(CELL, {}).trial
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(torn)

    reopened = Ledger(tmp_path)
    reopened.record_epoch(trial, 1, {"loss/total": 1.0}, "a")

    assert Ledger(tmp_path).rows[trial].epochs == {1: {"loss/total": 1.0}}


def test_every_prefix_of_the_journal_opens(tmp_path: Path) -> None:
    """A crash can leave the journal cut at any byte."""
    ledger = Ledger(tmp_path)
    trial = ledger.start(CELL, {}).trial
    ledger.record_epoch(trial, 1, {"loss/total": 1.0}, "a")
    ledger.end(trial, "complete", result={"metrics": {}}, value=1.0)
    whole = (tmp_path / FILE_NAME).read_bytes()
    for cut in range(0, len(whole), 7):
        folder = tmp_path / str(cut)
        folder.mkdir()
        (folder / FILE_NAME).write_bytes(whole[:cut])
        statuses = [row.status for row in Ledger(folder).rows.values()]
        assert statuses in ([], ["running"], ["complete"])
