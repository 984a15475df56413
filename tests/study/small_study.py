"""A finished study of a few real trials, run in this process, and what can happen to its records."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from rich.console import Console

from study import launch
from study.assembly import assemble, make_setup
from study.plan import Options, make_plan
from study.records import EPOCHS, MANIFEST
from study.trial import run_trial
from tests.study.pretended import SPACE, open_ledger

SMALL: Mapping[str, Any] = {
    "fixed": {"finetune.epochs": 2, "pretrain.epochs": 2},
    "search": {
        **SPACE["search"],
        "trials": 1,
        "seeds": 1,
        "confirm": {"top": 1, "seeds": 1},
        "early_stopping": None,
    },
    "ablation": {
        "seeds": 1,
        "baseline": "full",
        "arms": {"full": {}, "blown up": {"finetune.learning_rate": 1.0e30}},
    },
}


def run_small_study(out: Path, **changes: Any) -> None:
    """Do what a launch does, with the trials in this process, one after the other; `changes` replace keys."""
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump({**SPACE, **SMALL, **changes}, sort_keys=False))
    plan = make_plan(Options(space=str(file), out=str(out)))
    launch._begin(plan, 0.0)
    ledger = open_ledger(plan)
    agenda, ablation, _ = assemble(plan, ledger, 1, Console(quiet=True))
    setup = make_setup(plan, [0.0] * len(plan.recipe.stages), 1)

    while (job := agenda.next_job()) is not None:
        run_trial(job, setup, agenda.take)
    assert agenda.done
    launch._add_context(plan, ledger, agenda.pools["ablation"].used())
    launch._write_records(plan, ledger, agenda, ablation, finished=True)


def change_rows(path: Path, where: Mapping[str, Any], cells: Mapping[str, Any]) -> None:
    """Set some cells of the rows that match."""
    table = pq.read_table(path)
    rows = table.to_pylist()
    matching = [row for row in rows if all(row[name] == value for name, value in where.items())]
    assert matching
    for row in matching:
        row.update({name: value(row[name]) if callable(value) else value for name, value in cells.items()})
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), path)


def drop_epochs(out: Path, trial: int, *, after: int) -> None:
    table = pq.read_table(out / EPOCHS)
    rows = [row for row in table.to_pylist() if row["trial"] != trial or row["epoch"] <= after]
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), out / EPOCHS)


def change_manifest(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((out / MANIFEST).read_text())
    change(manifest)
    (out / MANIFEST).write_text(json.dumps(manifest))


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
