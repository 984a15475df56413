"""The thresholds of early stopping, rebuilt from the records, agree with the code that decided."""

import random

import pytest

from analysis.load import load_study
from analysis.search.proposals import search_of
from analysis.search.rungs import rung_counts, rungs
from analysis.tables.table import NothingToShow
from study.design import should_stop
from study.rungs import Rung
from study.spec import EarlyStopping
from tests.analysis.searched import RULE, manifest_of, run, settings

NUM_EPOCHS = 4


def decided_runs(count: int, batch: int | None, sign: float = 1.0):
    """Return runs that the study's own code let go on or stopped, one after the other."""
    generator = random.Random(3)
    rule = EarlyStopping.model_validate(RULE | {"rungs": tuple(RULE["rungs"])})
    rung = Rung(sign, batch)
    runs = []
    for proposal in range(count):
        curve = [generator.gauss(0, 1) for _ in range(NUM_EPOCHS)]
        best = max(curve[:2]) if sign > 0 else min(curve[:2])
        rung.put(proposal, best)
        stops = should_stop(*rung.standing(proposal), 2, rule)
        status = "stopped" if stops else "complete"
        runs.append(
            run(proposal, 1, curve[:2] if stops else curve, settings(), status=status, start_s=proposal)
        )
    return runs


@pytest.mark.parametrize("batch", [None, 6])
def test_thresholds_give_the_decisions_on_record(write_study, batch):
    runs = decided_runs(60, batch)
    out = write_study({}, others=runs, space=manifest_of(batch=6), deterministic=batch is not None)
    decisions = rungs(search_of(load_study(out)))
    assert decisions["stopped"].sum() > 10
    assert decisions["agrees"].all()


def test_smaller_can_be_better(write_study):
    runs = decided_runs(40, None, sign=-1.0)
    out = write_study({}, others=runs, space=manifest_of(), metrics={"score": "min", "cost": "min"})
    decisions = rungs(search_of(load_study(out)))
    assert decisions["stopped"].any()
    assert decisions["agrees"].all()
    stopped = decisions[decisions["stopped"]]
    assert (stopped["value"] > stopped["threshold"]).all()


def test_threshold_is_the_value_that_the_share_to_keep_had_reached(write_study):
    curves = [[5.0, 1.0], [2.0, 3.0], [4.0, 4.0], [0.0, 1.0]]
    runs = [run(p, 1, curve, settings(), start_s=p) for p, curve in enumerate(curves)]
    decisions = rungs(search_of(load_study(write_study({}, others=runs, space=manifest_of()))))
    # The third is compared with 5 and 3, of which ceil(0.5 * 3) = 2 may be better: it had to reach 3.
    assert decisions["value"].tolist() == [5, 3, 4, 1]
    assert decisions["num_others"].tolist() == [0, 1, 2, 3]
    assert decisions["threshold"].isna().tolist() == [True, True, False, False]
    assert decisions["threshold"].tolist()[2:] == [3, 4]
    # The last run is below its threshold and was not stopped: the record is not what the rule asks for.
    assert decisions["agrees"].tolist() == [True, True, True, False]


def test_counts_are_of_those_that_came_to_the_rung(write_study):
    runs = [
        run(0, 1, [1.0], settings(), status="running"),
        run(1, 1, [1.0, 1.0], settings(), status="stopped"),
        run(2, 1, [1.0, 1.0, 1.0], settings()),
    ]
    counts = rung_counts(rungs(search_of(load_study(write_study({}, others=runs, space=manifest_of())))))
    assert counts[["reached", "stopped", "went_on"]].to_numpy().tolist() == [[2, 1, 1]]


def test_search_without_early_stopping_says_so(write_study):
    out = write_study({}, others=[run(0, 1, [1.0], settings())], space=manifest_of(early_stopping=None))
    with pytest.raises(NothingToShow, match="it has no rungs"):
        rungs(search_of(load_study(out)))
