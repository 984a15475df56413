import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import ablation_table, load_study
from analysis.ablation import COLUMNS, MissingRuns, missing_runs
from study.records import RecordsError
from tests.analysis.made_up import CONT, gaining

GAINS = {
    "acmnet": [-1, 1, 0, 0, 0, 0, 0, 0],
    "+FSD": [1, 2, -1, 2, 1, 3, -1, 1],
    "+LCS": [5, 6, 5, 4, 6, 5, 5, 4],
    "FSD+LCS": [4, 5, 4, 6, 5, 3, 6, 7],
    "shuffled order": [4, 6, 3, 7, 4, 4, 5, 7],
}
VALUES: dict[str, list[Any]] = {
    "cont": CONT,
    **{arm: gaining(*gains) for arm, gains in GAINS.items()},
}
CONTEXT = {"random windows": [2.0, 3.0] * 4, "oracle-label windows": [25.0] * 8}


def row(table: pd.DataFrame, arm: str, baseline: str | None = "cont", metric: str = "score") -> pd.Series:
    same = table["baseline"].isna() if baseline is None else table["baseline"] == baseline
    found = table[(table["arm"] == arm) & same & (table["metric"] == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_numbers_by_hand(write_study: Any) -> None:
    table = ablation_table(load_study(write_study(VALUES, context=CONTEXT)))
    assert tuple(table.columns) == COLUMNS

    # +FSD − cont: Σ = 8, mean 1; squares of d − 1: 0 1 4 1 0 4 4 0 = 14, sd = √2, t(0.975, 7) = 2.364624
    fsd = row(table, "+FSD")
    assert (fsd["n"], fsd["n_missing"], fsd["wins"], fsd["family"]) == (8, 0, 6, "losses")
    assert fsd["mean"] == pytest.approx(46.0)
    assert fsd["sd"] == pytest.approx(np.std(VALUES["+FSD"], ddof=1))
    assert fsd["diff"] == pytest.approx(1.0)
    margin = 2.364624 * math.sqrt(2) / math.sqrt(8)
    assert (fsd["ci_low"], fsd["ci_high"]) == pytest.approx((1 - margin, 1 + margin), abs=1e-6)
    # +LCS and FSD+LCS have 8 wins of 8: p = 2/256, and Holm triples the smallest of three, ties alike
    assert row(table, "+LCS")["p"] == row(table, "FSD+LCS")["p"] == 2 / 256
    assert row(table, "+LCS")["p_holm"] == row(table, "FSD+LCS")["p_holm"] == 6 / 256
    assert fsd["p_holm"] == fsd["p"] > 0.05


def test_only_the_familys_metric_and_arms_have_a_p(write_study: Any) -> None:
    table = ablation_table(load_study(write_study(VALUES, context=CONTEXT)))
    tested = table[table["p"].notna()]
    assert list(zip(tested["arm"], tested["metric"], strict=True)) == [
        (arm, "score") for arm in ("+FSD", "+LCS", "FSD+LCS")
    ]
    assert set(tested["family"]) == {"losses"}
    assert table["family"].notna().sum() == table["p_holm"].notna().sum() == 3
    assert math.isfinite(row(table, "+FSD", metric="cost")["ci_low"])


def test_rows_are_arms_then_controls_against_other_arms_then_context(write_study: Any) -> None:
    table = ablation_table(load_study(write_study(VALUES, context=CONTEXT)))
    scores = table[table["metric"] == "score"]
    assert list(zip(scores["arm"], scores["baseline"].fillna(""), strict=True)) == [
        ("acmnet", "cont"),
        ("cont", ""),
        ("+FSD", "cont"),
        ("+LCS", "cont"),
        ("FSD+LCS", "cont"),
        ("shuffled order", "cont"),
        ("shuffled order", "FSD+LCS"),
        ("random windows", ""),
        ("oracle-label windows", ""),
    ]
    assert row(table, "shuffled order", "FSD+LCS")["diff"] == 0.0
    windows = row(table, "random windows", None)
    assert (windows["mean"], windows["n"]) == (2.5, 8)
    assert pd.isna(windows["wins"])


def test_wins_count_the_better_side_of_a_metric_to_be_minimised(write_study: Any) -> None:
    table = ablation_table(load_study(write_study(VALUES)))
    cost = row(table, "+LCS", metric="cost")
    assert cost["diff"] == pytest.approx(-5.0)
    assert cost["wins"] == 8


def test_a_missing_run_leaves_out_its_pair_and_is_counted(write_study: Any) -> None:
    lost = ["out of memory", *VALUES["+FSD"][1:6], "running", VALUES["+FSD"][7]]
    study = load_study(write_study({**VALUES, "+FSD": lost, "+LCS": VALUES["+LCS"][:7]}))
    table = ablation_table(study)
    fsd = row(table, "+FSD")
    assert (fsd["n"], fsd["n_missing"], fsd["wins"]) == (6, 2, 5)
    assert fsd["mean"] == pytest.approx(np.mean([v for v in lost if not isinstance(v, str)]))
    assert fsd["diff"] == pytest.approx(np.mean([2, -1, 2, 1, 3, 1]))
    assert missing_runs(study, study.ungated_seeds) == [
        MissingRuns("+FSD", (100,), "failed: out of memory"),
        MissingRuns("+FSD", (106,), "not finished yet"),
        MissingRuns("+LCS", (107,), "not started"),
    ]


@pytest.mark.situation(
    "kill",
    "an arm has failed with one seed, and another of its trials was interrupted",
    "the table marks the arm, and names both seeds as missing with the reason",
)
def test_a_missing_run_says_what_kind_of_failure_it_was(write_study: Any) -> None:
    lost = [("gpu_memory", "tried to allocate 2 GiB"), "waiting", *VALUES["+FSD"][2:]]
    study = load_study(write_study({**VALUES, "+FSD": lost}))
    assert row(ablation_table(study), "+FSD")["n_missing"] == 2
    assert missing_runs(study, study.ungated_seeds) == [
        MissingRuns("+FSD", (100,), "failed (gpu memory): tried to allocate 2 GiB"),
        MissingRuns("+FSD", (101,), "interrupted, it goes on with the next launch"),
    ]


def test_trials_that_no_longer_count_are_left_out(write_study: Any) -> None:
    study = load_study(write_study(VALUES, superseded={"+FSD": [0.0] * 8, "dropped": [1.0]}))
    expected = load_study(write_study(VALUES))
    pd.testing.assert_frame_equal(ablation_table(study), ablation_table(expected))


def test_a_seed_missing_in_the_baseline_is_missing_in_every_comparison_with_it(write_study: Any) -> None:
    table = ablation_table(load_study(write_study({**VALUES, "cont": ["stopped", *CONT[1:]]})))
    assert (row(table, "+LCS")["n"], row(table, "+LCS")["n_missing"]) == (7, 1)
    assert row(table, "+LCS")["diff"] == pytest.approx(row(table, "+LCS")["mean"] - np.mean(CONT[1:]))
    assert row(table, "shuffled order", "FSD+LCS")["n"] == 8


@pytest.mark.situation(
    "input",
    "a trial is complete, and one of its metrics is not a number",
    "the table counts it as missing for that metric, with the reason",
)
def test_a_complete_run_without_a_value_is_missing_for_that_metric(write_study: Any) -> None:
    study = load_study(write_study({**VALUES, "+FSD": [math.nan, *VALUES["+FSD"][1:]]}))
    assert row(ablation_table(study), "+FSD")["n_missing"] == 1
    (missing,) = missing_runs(study, study.ungated_seeds)
    assert missing.reason == "complete, but without a value of score, cost"


@pytest.mark.situation(
    "kill",
    "all trials of an arm have failed",
    "its comparison is missing, and still counts in the correction of the others' p values",
)
def test_a_lost_comparison_does_not_make_the_rest_of_its_family_look_better(write_study: Any) -> None:
    table = ablation_table(load_study(write_study({**VALUES, "+FSD": ["out of memory"] * 8})))
    assert math.isnan(row(table, "+FSD")["p_holm"])
    assert row(table, "+LCS")["p_holm"] == 6 / 256


def test_one_seed_has_an_effect_but_neither_interval_nor_p(write_study: Any) -> None:
    seeds = {"ablation": {"ungated": [100], "gated": None}}
    table = ablation_table(load_study(write_study(VALUES, seeds=seeds)))
    lcs = row(table, "+LCS")
    assert (lcs["n"], lcs["diff"], lcs["wins"]) == (1, 5.0, 1)
    assert lcs[["sd", "ci_low", "ci_high", "p", "p_holm"]].isna().all()


def test_seeds_needed_come_with_those_of_the_ends_of_the_effect(write_study: Any) -> None:
    table = ablation_table(load_study(write_study(VALUES)))
    # The mean of 1 is no surer than its interval, which holds 0.
    fsd = row(table, "+FSD")
    assert fsd["effect_low"] < 0 < fsd["effect_high"]
    assert fsd["seeds_low"] < fsd["seeds_needed"]
    assert pd.isna(fsd["seeds_high"])
    order = row(table, "shuffled order")
    assert order["effect_low"] > 0
    assert order["seeds_low"] <= order["seeds_needed"] <= order["seeds_high"]


def test_a_study_without_any_finished_trial_is_all_missing(write_study: Any) -> None:
    table = ablation_table(load_study(write_study({})))
    assert (table["n"] == 0).all()
    assert (table["n_missing"] == 8).all()
    assert table["mean"].isna().all()


def test_a_gate_gives_a_table_for_each_selection_of_seeds(write_study: Any) -> None:
    study = load_study(
        write_study(
            VALUES,
            gate={"metric": "score", "at_least": 45.0},
            seeds={"ablation": {"ungated": [100, 101, 102, 103], "gated": [101, 103, 104]}},
        )
    )
    table = ablation_table(study)
    assert tuple(table.columns) == (*COLUMNS, "seeds")
    assert list(table["seeds"].unique()) == ["gated", "ungated"]
    gated, ungated = (row(table[table["seeds"] == name], "cont", None) for name in ("gated", "ungated"))
    # three of the eight wanted seeds passed
    assert (gated["n"], gated["n_missing"], gated["mean"]) == (3, 5, pytest.approx((50 + 46 + 42) / 3))
    assert (ungated["n"], ungated["mean"]) == (4, pytest.approx(45.0))


@pytest.mark.situation(
    "storage",
    "the records hold two results for one arm and seed",
    "no table is made; the message names arm and seed",
)
def test_two_results_of_one_arm_and_seed_are_refused(write_study: Any) -> None:
    # the context of this study is named like an arm
    study = load_study(write_study(VALUES, context={"cont": [1.0]}))
    with pytest.raises(RecordsError, match="two trials of arm cont with seed 100"):
        ablation_table(study)
