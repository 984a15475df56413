"""Proposals as the unit: means over all search seeds, or no value."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.load import load_study
from analysis.search.proposals import Parameter, search_of
from analysis.search.slices import pair_cells, seed_noise, slices
from analysis.tables.table import NothingToShow
from tests.analysis.searched import PARAMETERS, manifest_of, run, settings


@pytest.fixture
def search(write_study):
    """Return a reader of a search that consists of some runs."""

    def read(*runs, **changes):
        return search_of(load_study(write_study({}, others=runs, space=manifest_of(**changes))))

    return read


def test_value_is_the_mean_over_all_seeds_or_missing(search):
    found = search(
        run(0, 1, [1.0, 4.0], settings()),
        run(0, 2, [6.0, 5.0], settings()),
        run(1, 1, [9.0, 9.0], settings()),
        run(1, 2, [1.0, 1.0], settings(), status="stopped"),
        run(2, 1, [9.0, 9.0], settings()),
        run(2, 2, [1.0], settings(), status="failed"),
        run(3, 1, [9.0, 9.0], settings()),
        run(3, 2, [1.0], settings(), status="running"),
    )
    proposals = found.proposals.set_index("proposal")
    assert proposals["state"].to_dict() == {0: "complete", 1: "stopped", 2: "failed", 3: "running"}
    assert proposals.loc[0, "value"] == 5.0
    assert proposals["value"].isna().tolist() == [False, True, True, True]


def test_proposal_of_which_a_seed_has_not_started_has_no_value(search):
    found = search(run(0, 1, [1.0], settings()), run(0, 2, [2.0], settings()), run(1, 1, [9.0], settings()))
    assert found.proposals["state"].tolist() == ["complete", "running"]


def test_value_at_an_epoch_is_the_best_up_to_it_of_all_that_came_there(search):
    found = search(
        run(0, 1, [3.0, 1.0, 8.0], settings()),
        run(0, 2, [1.0, 2.0, 9.0], settings()),
        run(1, 1, [1.0, 1.0], settings(), status="stopped"),
        run(1, 2, [2.0, 5.0, 6.0], settings()),
        run(2, 1, [7.0], settings(), status="running"),
        run(2, 2, [7.0, 7.0], settings(), status="running"),
    )
    assert found.values_at(2).to_dict() == {0: 2.5, 1: 3.0}


def test_winner_is_found_by_its_settings(write_study):
    runs = [run(number, 1, [1.0], settings(a=number / 10)) for number in range(4)]
    out = write_study({}, others=runs, space=manifest_of(seeds=1), winner=settings(a=0.2))
    assert search_of(load_study(out)).winner == 2


def test_options_of_several_types_are_told_apart(search):
    parameters = {**PARAMETERS, "finetune.mode": {"when": {}, "choice": [None, 1, "1", True]}}
    runs = [
        run(number, 1, [float(number)], settings() | {"finetune.mode": option})
        for number, option in enumerate((True, "1", 1, None))
    ]
    found = search(*runs, parameters=parameters)
    mode = found.parameters[-1]
    assert mode.position(found.proposals[mode.name]).tolist() == [3, 2, 1, 0]
    table = slices(found)
    assert table.loc[table["parameter"] == mode.name, "setting"].tolist() == [True, "1", 1, None]


def test_positions_follow_the_scale_of_the_search():
    log = Parameter("b", "b", 0.01, 1.0, log=True)
    assert log.position(pd.Series([0.01, 0.1, 1.0])) == pytest.approx([0.0, 0.5, 1.0])
    assert Parameter("a", "a", 2, 6).position(pd.Series([2, 3, None])) == pytest.approx(
        [0, 0.25, np.nan], nan_ok=True
    )


def test_labels_drop_the_group_only_where_all_share_it(search):
    other = {**PARAMETERS, "pretrain.lr": {"when": {}, "float": [0.1, 1.0]}}
    first = run(0, 1, [1.0], settings())
    assert [p.label for p in search(first).parameters] == ["b", "a", "k"]
    assert search(first, parameters=other).parameters[0].label == "finetune.b"


def test_seed_noise_is_what_neither_seed_nor_proposal_explains(search):
    def runs(surprise):
        return [
            run(p, seed, [10.0 * p + 100.0 * seed + surprise * (p == 1) * (seed == 2)], settings())
            for p in range(2)
            for seed in (1, 2)
        ]

    assert seed_noise(search(*runs(0.0))) == pytest.approx(0.0, abs=1e-9)
    # Residuals of a surprise of 8 in one of 2 x 2 cells are ±2: variance 16 with one degree of freedom.
    assert seed_noise(search(*runs(8.0))) == pytest.approx(math.sqrt(16 / 2))


def test_slices_leave_out_proposals_without_the_parameter(search):
    parameters = {**PARAMETERS, "finetune.c": {"when": {"finetune.k": [3]}, "float": [0.0, 1.0]}}
    found = search(
        run(0, 1, [1.0], settings() | {"finetune.c": 0.5}),
        run(1, 1, [2.0], settings(k=4)),
        parameters=parameters,
    )
    table = slices(found)
    assert table.loc[table["parameter"] == "finetune.c", "proposal"].tolist() == [0]


def test_cells_have_the_mean_of_their_proposals_and_reach_the_end_of_the_range(search):
    found = search(
        run(0, 1, [1.0], settings(a=0.01)),
        run(1, 1, [3.0], settings(a=0.02)),
        run(2, 1, [7.0], settings(a=1.0)),
    )
    b, a, _ = found.parameters
    cells = pair_cells(found, a, b, 4)
    assert cells[["x_cell", "mean", "n"]].to_numpy().tolist() == [[0, 2.0, 2], [3, 7.0, 1]]


@pytest.mark.situation("input", "a study without a search", "its pictures say so in one sentence each")
def test_study_without_a_search_says_so(write_study):
    study = load_study(write_study({}, space=manifest_of() | {"definition": {"search": None}}))
    with pytest.raises(NothingToShow, match="searches no settings"):
        search_of(study)


def test_search_without_a_complete_proposal_says_so(search):
    with pytest.raises(NothingToShow, match="none of the 1 proposals has run to its end"):
        search(run(0, 1, [1.0], settings(), status="running")).complete()
