"""Importance: what decides comes out on top, chance is said, and too little gives no number."""

import random

import pytest

from analysis.load import load_study
from analysis.search.importance import EVALUATORS, MIN_PROPOSALS, importances
from analysis.search.proposals import search_of
from analysis.tables.table import NothingToShow
from tests.analysis.searched import PARAMETERS, manifest_of, run, settings


@pytest.fixture
def search(write_study):
    """Return a reader of a search in which `worth` of the settings decides."""

    def read(count, worth, **changes):
        generator = random.Random(0)
        runs = []
        for number in range(count):
            chosen = settings(generator.random(), 10 ** generator.uniform(-2, 0), generator.randint(1, 9))
            runs.append(run(number, 1, [worth(chosen)], chosen))
        return search_of(load_study(write_study({}, others=runs, space=manifest_of(**changes))))

    return read


@pytest.mark.parametrize("name", ["finetune.a", "finetune.b", "finetune.k"])
def test_the_only_parameter_that_decides_is_found_whatever_its_place(search, name):
    found = search(40, lambda chosen: float(chosen[name]))
    table = importances(found, resamples=4, chance_resamples=4)
    for evaluator in EVALUATORS:
        share = table[table["evaluator"] == evaluator].set_index("parameter")["importance"]
        assert share.idxmax() == name, evaluator
        assert share.sum() == pytest.approx(1)
    forest = table[table["evaluator"].isin(["fANOVA", "MDI"])].set_index("parameter")
    assert (forest.loc[name, "low"] > forest.loc[name, "chance"]).all()
    assert (table["n"] == 40).all()


def test_what_decides_nothing_stays_within_chance(search):
    noise = random.Random(1)
    found = search(30, lambda _: noise.gauss(0, 1))
    table = importances(found, resamples=8, chance_resamples=8)
    assert (table["low"] < table["chance"]).all()


def test_equal_records_give_equal_numbers(search):
    found = search(20, lambda chosen: chosen["finetune.a"])
    first, second = (importances(found, resamples=2, chance_resamples=2) for _ in range(2))
    assert first.equals(second)


def test_parameters_of_some_proposals_only_are_left_out(search):
    conditional = {"finetune.c": {"when": {"finetune.k": [1]}, "float": [0.0, 1.0]}}
    found = search(12, lambda chosen: chosen["finetune.a"], parameters={**PARAMETERS, **conditional})
    table = importances(found, evaluators=("PED-ANOVA",), resamples=2, chance_resamples=0)
    assert set(table["parameter"]) == set(PARAMETERS)


@pytest.mark.situation("input", "a search too small for importances", "it says how many proposals are needed")
def test_too_few_proposals_give_a_reason(search):
    with pytest.raises(NothingToShow, match=f"needs {MIN_PROPOSALS} proposals .* there are 3"):
        importances(search(3, lambda chosen: chosen["finetune.a"]))


def test_equal_values_give_a_reason(search):
    with pytest.raises(NothingToShow, match="worth the same"):
        importances(search(10, lambda _: 1.0))
