"""A small real study whose trials are run again from their records, and what is looked at."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from study.comparison import Comparison, Difference
from study.ledger_location import FILE_NAME
from study.manifest import alignment
from study.records import TRIALS
from study.reproduce import reproduce
from tests.study.small_study import run_small_study

of_one_study = pytest.mark.xdist_group("reproduce")  # it takes seconds to run
Alter = Callable[..., Path]
ALIGNMENT = " ".join(filter(None, (alignment()["backends"][0], alignment()["native"])))

# The trials of the study, in the order of its work.
PRETRAIN, SEARCH, FINETUNE, BLOWN_UP, CONTEXT = 4, 1, 5, 6, 7


def run_original(out: Path) -> None:
    """Run the study and keep its records alone, which are to do."""
    run_small_study(out)
    (out / FILE_NAME).unlink()
    trials = pq.read_table(out / TRIALS).to_pydict()
    assert [trials["stage"][i] for i in (PRETRAIN, SEARCH)] == ["pretrain", "finetune"]
    assert [trials["arm"][i] for i in (FINETUNE, BLOWN_UP)] == ["full", "blown up"]
    assert trials["phase"][PRETRAIN] == "ablation" and trials["phase"][CONTEXT] == "context"


def again(out: Path, trial: int, data: str | None = None) -> Comparison:
    return reproduce(str(out), trial, data=data)


def only_difference(out: Path, trial: int) -> Difference:
    comparison = again(out, trial)
    assert not comparison.identical
    (difference,) = (difference for part in comparison.parts for difference in part.differences)
    return difference


def set_to(name: str, value: float) -> Callable[[str], str]:
    return lambda settings: json.dumps({**json.loads(settings), name: value})


def shown(comparison: Comparison) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(comparison.render())
    return capture.get()
