"""Learning curves, regret, sensitivity and pretraining as data."""

import dataclasses

import pytest

from analysis.load import load_study
from analysis.search.curves import arm_curves, curve_quantiles
from analysis.search.pretraining import pretrained
from analysis.search.proposals import search_of
from analysis.search.regret import regret
from analysis.search.sensitivity import grids
from analysis.tables.table import NothingToShow
from study.rows import Cell, Row
from tests.analysis import made_up
from tests.analysis.searched import manifest_of, run, settings


def test_quantiles_never_mix_runs_that_were_stopped_with_those_that_were_not(write_study):
    runs = [
        run(0, 1, [10.0, 20.0, 30.0], settings()),
        run(1, 1, [12.0, 22.0, 32.0], settings()),
        run(2, 1, [1.0, 2.0], settings(), status="stopped"),
        run(3, 1, [99.0], settings(), status="running"),
    ]
    table = curve_quantiles(search_of(load_study(write_study({}, others=runs, space=manifest_of()))))
    complete, stopped = table[table["fate"] == 0], table[table["fate"] == 2]
    assert complete["q50"].tolist() == [11, 21, 31]
    assert complete["n"].tolist() == [2, 2, 2]
    assert stopped["q50"].tolist() == [1, 2]


def test_regret_counts_all_trials_and_all_work(write_study):
    runs = [
        run(0, 1, [1.0, 5.0], settings(), start_s=0),
        run(1, 1, [0.0], settings(), status="stopped", start_s=10),
        run(2, 1, [4.0, 4.0], settings(), start_s=20),
        run(3, 1, [8.0, 7.0], settings(), start_s=40),
    ]
    table = regret(search_of(load_study(write_study({}, others=runs, space=manifest_of()))))
    assert table["proposal"].tolist() == [0, 2, 3]
    assert table["regret"].tolist() == [3, 3, 0]
    assert table["num_trials"].tolist() == [2, 3, 4]
    # Two slots worked from 10 s to 20 s, one of them until 60 s.
    assert table["slot_s"].tolist() == pytest.approx([30, 50, 70])


def test_smaller_objectives_have_regret_too(write_study):
    runs = [run(0, 1, [5.0], settings()), run(1, 1, [3.0], settings(), start_s=20)]
    out = write_study({}, others=runs, space=manifest_of(), metrics={"score": "min", "cost": "min"})
    assert regret(search_of(load_study(out)))["regret"].tolist() == [2, 0]


def arm_run(arm, seed, curve):
    epochs = {epoch: {"validation/score": value} for epoch, value in enumerate(curve, 1)}
    cell = Cell("ablation", "finetune", seed, arm=arm)
    started = made_up.STARTED_AT
    return Row(
        0, cell, {}, "complete", started, started, epochs, result={"metrics": {"test/score": curve[-1]}}
    )


def test_arms_curves_are_paired_with_the_baseline_by_seed_and_epoch(write_study):
    runs = [
        arm_run("cont", 100, [1.0, 2.0]),
        arm_run("cont", 101, [11.0, 12.0]),
        arm_run("+FSD", 100, [2.0, 4.0]),
        arm_run("+FSD", 101, [12.0, 16.0]),
        arm_run("+LCS", 102, [99.0, 99.0]),
    ]
    table = arm_curves(load_study(write_study({}, others=runs)))
    assert table[["arm", "epoch", "n", "mean"]].to_numpy().tolist() == [
        ["+FSD", 1, 2, 1.0],
        ["+FSD", 2, 2, 3.0],
    ]


def test_arms_without_epochs_in_common_say_so(write_study):
    with pytest.raises(NothingToShow, match="cont"):
        arm_curves(load_study(write_study({}, others=[arm_run("+FSD", 100, [1.0])])))


def grid_space(arms):
    space = made_up.manifest()["space"]
    return (
        space
        | {"arms": arms, "baseline": "cont", "families": [], "controls": None}
        | {"definition": {"fixed": {"x.fixed": 1}, "search": None, "ablation": {"arms": arms}}}
    )


def test_a_grid_is_arms_that_differ_in_one_number_alone(write_study):
    arms = {
        "cont": {"x.weight": 0.0},
        "high": {"x.gamma": 10.0},
        "hard": {"x.gamma": 0},
        "low": {"x.gamma": 0.1},
        "low and other": {"x.gamma": 0.5, "x.weight": 2.0},
        "switched": {"x.gamma": True},
    }
    (grid,) = grids(load_study(write_study({}, space=grid_space(arms))))
    assert grid.parameter == "x.gamma"
    assert list(grid.arms.items()) == [(0.0, "hard"), (0.1, "low"), (10.0, "high")]


def test_two_values_are_no_grid(write_study):
    arms = {"cont": {}, "a": {"x.gamma": 1.0}, "b": {"x.gamma": 2.0}}
    assert grids(load_study(write_study({}, space=grid_space(arms)))) == []


def model(seed, value, **cell):
    place = Cell(**{"phase": "ablation", "stage": "pretrain", "seed": seed, **cell})
    started = made_up.STARTED_AT
    result = {"metrics": {"validation/score": value, "test/score": value}, "export": "pretrained/x.pt"}
    return Row(0, place, {}, "complete", started, started, result=result)


GATE = {"metric": "score", "at_least": 50.0}


def test_shared_models_pass_the_gate_one_by_one(write_study):
    models = [model(100, 60.0, pretrain_key="a"), model(101, 40.0, pretrain_key="b")]
    table = pretrained(load_study(write_study({}, others=models, gate=GATE)))
    assert table[["group", "seed", "passed"]].to_numpy().tolist() == [
        ["ablation", 100, True],
        ["ablation", 101, False],
    ]
    assert table.attrs["metric"] == "score"


def test_a_seed_passes_if_the_models_of_all_its_arms_do(write_study):
    values = {("a", 100): 60.0, ("b", 100): 70.0, ("a", 101): 60.0, ("b", 101): 40.0}
    models = [model(seed, value, arm=arm) for (arm, seed), value in values.items()]
    study = load_study(write_study({}, others=models, gate=GATE))
    # The made-up study has a shared model too, which this recipe would not.
    table = pretrained(dataclasses.replace(study, trials=study.trials[study.trials["arm"].notna()]))
    assert table["group"].tolist() == ["a", "b", "a", "b"]
    assert table["passed"].tolist() == [True, True, True, False]
    assert table["seed_passes"].tolist() == [True, True, False, False]


def test_study_without_pretrained_models_says_so(write_study):
    with pytest.raises(NothingToShow, match="no pretrained model is complete"):
        pretrained(load_study(write_study({"cont": [1.0]})))
