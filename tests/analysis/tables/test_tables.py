import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis._text import seeds_needed
from analysis.load import Study, load_study
from analysis.tables.ablation_paper import paper_table
from analysis.tables.best import best_table
from analysis.tables.comparisons import comparisons_table, interval_note
from analysis.tables.components import components, has_component
from analysis.tables.contents import TABLES, make_table
from analysis.tables.cost import cost_table
from analysis.tables.grid import grid_table
from analysis.tables.pretraining import pretraining_table
from analysis.tables.sensitivity import sensitivity_table
from analysis.tables.table import Cell, NothingToShow, Table
from tests.analysis import made_up
from tests.analysis.tables.studies import ARMS, HEADLINE, write_searched


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_searched(tmp_path_factory.mktemp("searched") / "out")


@pytest.fixture(scope="module")
def study(folder: Path) -> Study:
    return load_study(folder)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return load_study(write_searched(tmp_path_factory.mktemp("other") / "out", data="other"))


def cell(table: Table, row: str, column: str, section: str | None = None) -> Cell:
    heads = [head.name for head in table.columns]
    return next(
        each.cells[heads.index(column)]
        for each in table.rows
        if each.cells[0].text == row and (section is None or each.section == section)
    )


def texts(table: Table, row: str, section: str | None = None) -> list[str]:
    return [
        each.text
        for own in table.rows
        if own.cells[0].text == row and (section is None or own.section == section)
        for each in own.cells
    ]


def test_the_ablation_has_a_papers_shape(study: Study) -> None:
    table = paper_table(study)
    # Metrics beyond the headline's range of tIoU are left to the CSV.
    assert [column.name for column in table.columns] == [
        *("arm", "FSD", "LCS", "seeds", "0.1", "0.2", "0.3", "0.1:0.2", "0.1:0.3"),
    ]
    assert texts(table, "both") == ["both", "✓", "✓", "8", "48.5", "47.5", "46.5", "44.5 ± 2.4", "43.5 ± 2.4"]
    assert texts(table, "+FSD")[1:3] == ["✓", ""]
    # A control trains with both losses too, but on something else.
    assert texts(table, "shuffled")[1:3] == ["(✓)", "(✓)"]
    assert any("in brackets in controls" in note for note in table.notes)
    assert "What sets controls apart: shuffled, order = shuffled." in table.notes
    assert [row.section for row in table.rows].count("controls") == 1
    assert table.rows[-1].section == "without training"
    assert set(table.long["metric"]) == set(study.metrics)


def test_best_and_significant_are_marked_where_they_are_shown(study: Study) -> None:
    table = paper_table(study)
    assert [row.cells[0].text for row in table.rows if row.cells[-1].best] == ["both"]
    # The context row has 99, which no arm was trained for.
    assert not cell(table, "random windows", "0.1").best
    significant = {row.cells[0].text for row in table.rows if row.cells[-1].significant}
    assert significant == {"+FSD", "both"}
    assert all(not each.significant for row in table.rows for each in row.cells[:-1])


def test_cells_name_their_trials_and_why_some_are_missing(study: Study) -> None:
    table = paper_table(study)
    seeds = cell(table, "+FSD", "seeds")
    assert seeds.text == "7 of 8"
    assert seeds.missing == "+FSD: seed 5 failed (gpu memory): CUDA out of memory_[1|2]"
    lacking = table.long.loc[table.long["n_missing"] > 0, ["arm", "missing"]].drop_duplicates()
    assert list(lacking.loc[lacking["arm"] == "+FSD", "missing"]) == [seeds.missing]
    mean = cell(table, "+FSD", "0.1:0.3")
    runs = study.trials.set_index("trial").loc[list(mean.trials)]
    assert set(runs["arm"]) == {"+FSD"}
    assert sorted(runs["seed"]) == [0, 1, 2, 3, 4, 6, 7]
    assert runs[f"test/{HEADLINE}"].mean() == pytest.approx(mean.value)


def test_an_arm_that_trains_nothing_has_no_component(study: Study) -> None:
    found = components(study)
    assert found == {"FSD": "finetune.lambda_fsd", "LCS": "finetune.lambda_lcs"}
    on = {arm: [has_component(study, arm, parameter) for parameter in found.values()] for arm in ARMS}
    assert on["both"] == [True, True]
    assert on["acmnet"] == [False, False]
    assert on["γ=1"] == [True, False]


@pytest.mark.parametrize(("winner", "is_said"), [({"finetune.gamma": 0.1}, True), (None, False)])
def test_choosing_on_test_videos_is_noted_where_something_was_chosen(
    tmp_path: Path, winner: dict[str, float] | None, is_said: bool
) -> None:
    study = load_study(write_searched(tmp_path / "chosen", protocol="reference", winner=winner))
    notes = " ".join(paper_table(study).notes)
    assert ("Settings were chosen on these test videos" in notes) == is_said
    assert "Settings and epochs" not in notes


def test_datasets_are_columns(study: Study, other: Study) -> None:
    table = paper_table(study, other)
    assert [column.group for column in table.columns[3:]] == ["set"] * 3 + ["other"] * 3
    assert [column.name for column in table.columns[3:6]] == ["seeds", "mAP@0.1:0.2", "mAP@0.1:0.3"]
    assert table.columns[6].study == str(other.store)
    assert set(table.long["data"]) == {"set", "other"}
    for make in (grid_table, sensitivity_table, pretraining_table, best_table, cost_table):
        together = make(study, other)
        assert {column.study for column in together.columns[1:]} >= {str(study.store), str(other.store)}


def test_a_study_without_such_a_table_is_named_in_a_note(study: Study, tmp_path: Path) -> None:
    made_up.write_study(
        tmp_path / "plain", {"cont": [1.0, 2.0]}, data={**made_up.manifest()["data"], "spec": "p"}
    )
    plain = load_study(tmp_path / "plain")
    table = best_table(study, plain)
    assert table.notes[-1] == "p is not shown: this study searches no settings."
    assert {column.study for column in table.columns[1:]} == {str(study.store)}
    with pytest.raises(NothingToShow, match=r"^this study searches no settings$"):
        best_table(plain, plain)


def test_arms_of_one_name_and_several_meanings_are_pointed_out(study: Study, tmp_path: Path) -> None:
    arms = {**ARMS, "both": {"finetune.gamma": 0.5}}
    space = {**study.manifest["space"], "arms": arms}
    changed = load_study(write_searched(tmp_path / "out", data="other", space=space))
    assert (
        "both does not have the same settings in all of these studies." in paper_table(study, changed).notes
    )


def test_comparisons_state_effect_and_power(study: Study) -> None:
    table = comparisons_table(study)
    row = texts(table, "+FSD", "against cont")
    assert row[1:7] == ["7 of 8", "40.3 ± 2.6", "+2.0", "[+1.9, +2.2]", "0.0156", "0.0156"]
    assert cell(table, "shuffled", "p", "against both").text == "–"
    assert {row.section for row in table.rows} == {"against cont", "against γ=0", "against both"}
    assert any("paired t" in note and "of 7 normal differences 95 %" in note for note in table.notes)


@pytest.mark.parametrize(
    ("counts", "effect", "words"),
    [
        ((20, 9, 1257), (0.9, 0.1, 1.8), "20 (9 to > 100)"),
        ((26528, 9, None), (0.0, -0.7, 0.7), "> 100"),
        ((None, 9, None), (0.0, -0.7, 0.7), "> 100"),
        ((7, 7, 7), (-9.0, -12.0, -6.0), "7"),
        ((None, None, None), (math.nan, -0.7, 0.7), "–"),
    ],
)
def test_seeds_needed_are_told_as_surely_as_they_are_known(
    counts: tuple[int | None, ...], effect: tuple[float, float, float], words: str
) -> None:
    names = ("seeds_needed", "seeds_low", "seeds_high", "effect", "effect_low", "effect_high")
    assert seeds_needed(pd.Series((*counts, *effect), names, dtype=object)) == words


def test_p_is_called_exact_only_under_its_condition(study: Study) -> None:
    for make in (comparisons_table, paper_table):
        (note,) = (note for note in make(study).notes if "exact" in note)
        assert "if differences are symmetric without an effect" in note


@pytest.mark.parametrize(
    ("n", "words"),
    [
        (8, "of such intervals of 8 normal differences 95 % held"),
        (64, "of 50 normal differences (the nearest n below 64 that was measured) 95 % held"),
    ],
)
def test_coverage_names_the_n_that_it_was_measured_at(n: int, words: str) -> None:
    assert words in interval_note(pd.DataFrame({"n": [n, n + 1]}), "t")


def test_bca_intervals_come_with_their_coverage(study: Study) -> None:
    table = comparisons_table(study, intervals="bca")
    t = comparisons_table(study)
    both = [cell(each, "acmnet", "95 % interval", "against cont").text for each in (t, table)]
    assert both[0] != both[1]
    assert any("BCa" in note and " % held" in note for note in table.notes)


def test_a_grid_has_a_row_for_each_value_paired_with_its_reference(study: Study) -> None:
    table = grid_table(study)
    assert [row.cells[0].text for row in table.rows] == ["0", "0.1", "1"]
    assert {row.section for row in table.rows} == {"finetune.gamma, tested against γ=0"}
    assert texts(table, "1")[1:] == [
        *("8", "41.5 ± 2.4", "+3.0", "[+2.8, +3.2]", "–", "+2.0", "[+2.0, +2.0]", "0.0156"),
    ]
    assert texts(table, "0")[-3:] == ["–", "–", "–"]
    assert not any("losses" in note for note in table.notes)


def test_equal_means_of_a_grid_are_all_the_best(study: Study) -> None:
    value = f"test/{HEADLINE}"
    trials = study.trials.copy()
    best = trials.loc[trials["arm"] == "γ=1", ["seed", value]].set_index("seed")[value]
    others = trials["arm"].isin(["γ=0", "γ=0.1"])
    trials.loc[others, value] = trials.loc[others, "seed"].map(best) - 0.001
    table = grid_table(replace(study, trials=trials))
    assert [row.cells[2].best for row in table.rows] == [True, True, True]
    assert [row.cells[2].best for row in grid_table(study).rows] == [False, False, True]


def test_a_difference_within_the_grid_says_on_how_many_pairs_it_rests(study: Study) -> None:
    trials = study.trials
    lost = (trials["arm"] == "γ=0") & trials["seed"].isin([1, 2, 3])
    table = grid_table(replace(study, trials=trials[~lost]))
    (row,) = (row for row in table.rows if row.cells[0].text == "1")
    from_baseline, within = row.cells[3], row.cells[6]
    assert (row.cells[1].text, from_baseline.missing) == ("8", None)
    assert (within.text, len(within.trials)) == ("+2.0", 2 * 5)
    assert within.missing == "3 of 8 pairs of γ=1 and γ=0 are not complete"


def test_sensitivity_counts_every_proposal_of_a_part(study: Study) -> None:
    table = sensitivity_table(study)
    gamma = [row for row in table.rows if row.section == "gamma"]
    counts = [row.cells[1].text.removeprefix("◂ ") for row in gamma]
    assert counts == ["2 of 2", "0 of 0", "1 of 1", "0 of 0", "0 of 1"]
    first = gamma[0].cells
    # (53 + 57) / 2 at the end; a run shows 1 less after epoch 2.
    assert [each.text for each in first[2:]] == ["55.0 ± 2.8", "57.0", "54.0 ± 2.8"]
    assert first[1].text.startswith("◂")
    assert gamma[1].cells[2].missing == "no proposal lies here"
    assert gamma[4].cells[2].missing == "no proposal here ran to its end on all seeds"
    assert gamma[4].cells[4].text == "44.0"


def test_sensitivity_calls_nothing_stopped_that_still_runs(study: Study) -> None:
    trials = study.trials.assign(status=study.trials["status"].replace("stopped", "running"))
    table = sensitivity_table(replace(study, trials=trials))
    (last,) = (row for row in table.rows if row.section == "gamma" and row.cells[1].text == "0 of 1")
    assert last.cells[2].missing == "no proposal here has run to its end on all seeds yet"
    assert any("were not stopped early" in note for note in sensitivity_table(study).notes)
    assert not any("stopped" in note for note in table.notes)


def test_sensitivity_has_options_and_proposals_without_the_parameter(study: Study) -> None:
    table = sensitivity_table(study)
    assert [row.cells[0].text for row in table.rows if row.section == "kind"] == ["hard", "soft"]
    assert cell(table, "not searched", "complete", "tau").text == "◂ 2 of 2"
    parts = table.long.groupby("parameter", sort=False)["proposals"].sum()
    assert set(parts) == {4}


def test_pretraining_shows_the_spread_and_each_model(study: Study) -> None:
    table = pretraining_table(study)
    assert texts(table, "ablation seeds", "together")[1:6] == ["8", "47.5 ± 2.4", "44.0", "51.0", "none"]
    assert texts(table, "seed 3", "ablation seeds")[2] == "47.0"
    assert texts(table, "seed 3", "ablation seeds")[-1] == "38.0"


def test_a_gate_is_shown_model_by_model(tmp_path: Path) -> None:
    gate = {"metric": "mAP@0.1", "at_least": 46.0}
    seeds = {"ablation": {"ungated": list(range(4)), "gated": [2, 3, 4, 5]}, "search": None, "confirm": None}
    table = pretraining_table(load_study(write_searched(tmp_path / "out", gate=gate, seeds=seeds)))
    assert texts(table, "ablation seeds", "together")[5] == "6 of 8"
    assert [texts(table, f"seed {seed}", "ablation seeds")[5] for seed in (1, 2)] == ["✗", "✓"]
    assert any("Ablation seeds that count: 2, 3, 4, 5; 8 were wanted" in note for note in table.notes)


def test_best_configurations_rank_the_confirmed_first(study: Study) -> None:
    table = best_table(study)
    assert [column.name for column in table.columns[1:]] == ["winner (#3)", "defaults (#0)", "#1"]
    assert texts(table, "search")[1:] == ["57.0 ± 1.4", "51.0 ± 1.4", "53.0 ± 1.4"]
    assert texts(table, "confirmation")[1:3] == ["63.0", "60.0"]
    assert cell(table, "confirmation", "#1").missing == "not among the confirmed"
    assert texts(table, "rank in the search")[1:] == ["1 of 3", "3 of 3", "2 of 3"]
    assert texts(table, "tau")[1:] == ["", "", "0.5"]
    assert list(table.long.loc[table.long["is_winner"], "proposal"]) == [3]


def test_cost_adds_up(study: Study) -> None:
    table = cost_table(study)
    long = table.long.set_index("part")
    # 3 epochs of 4 s for 10 models, of 2 s for 6 + 2 runs, of 3 s for 64; two stopped after 2; 6 s were lost.
    assert long.loc[long["in_total"], "wall_s"].sum() == 10 * 12 + 8 * 6 + 2 * 4 + 64 * 9 + 6
    assert texts(table, "total")[1] == "85"
    # 10 models of 12 s served 64 + 8 trials; that of the confirmation is not on record.
    assert long.loc["saved by sharing", "wall_s"] == (64 + 8) * 12 - 10 * 12
    assert long.loc["one more ablation seed", "wall_s"] == 8 * 9 + 12
    assert texts(table, "both")[2:5] == ["1.2", "1.2", "0.30"]


def test_nothing_to_show_is_said_in_words(tmp_path: Path) -> None:
    made_up.write_study(tmp_path / "out", {"cont": ["running"], "+FSD": ["failed to start"]}, finished=False)
    empty = load_study(tmp_path / "out")
    reasons = {}
    for name in TABLES:
        with pytest.raises(NothingToShow) as caught:
            make_table(name, empty)
        reasons[name] = str(caught.value)
    assert reasons["ablation"] == "no run of the ablation has finished"
    assert reasons["cost"] == "no trial has spent any time"
    assert reasons["sensitivity"] == "this study searches no settings"


def test_a_running_study_has_the_tables_that_it_can_have(tmp_path: Path) -> None:
    values: Any = {"cont": [1.0, 2.0, "running"], "+FSD": [2.0, 4.0, 5.0]}
    made_up.write_study(tmp_path / "out", values, finished=False)
    table = paper_table(load_study(tmp_path / "out"))
    seeds = cell(table, "+FSD", "seeds")
    assert seeds.text == "2 of 8"
    assert seeds.missing is not None
    assert "cont: seed 102 not finished yet" in seeds.missing
    # Means over different seeds do not compare, so none is the best.
    assert not any(each.best for row in table.rows for each in row.cells)


def test_a_copied_folder_is_enough(folder: Path, study: Study, tmp_path: Path) -> None:
    copy = load_study(shutil.copytree(folder, tmp_path / "copy"))
    for name in ("ablation", "sensitivity", "cost"):
        pd.testing.assert_frame_equal(make_table(name, copy).long, make_table(name, study).long)
