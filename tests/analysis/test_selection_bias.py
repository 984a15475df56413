from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import load_study
from analysis.selection_bias import selection_bias
from analysis.tables.selection_bias import selection_bias_table
from analysis.tables.table import NothingToShow
from study.rows import Cell, Row
from tests.analysis.made_up import STARTED_AT, manifest

SEEDS = (100, 101, 102)
# arm -> for each seed validation by epoch, and test at the chosen epoch
VALIDATION = {
    "cont": ([10, 30, 20], [10, 20, 40], [10, 26, 20]),
    "+FSD": ([20, 40, 30], [20, 45, 50], [20, 35, 30]),
}
TEST = {"cont": (25, 30, 35), "+FSD": (28, 34, 45)}
SEARCH = {
    "definition": {
        "objective": {"metric": "score", "split": "validation"},
        "search": {"parameters": {}, "batch": None},
    }
}


def ablation(by_epoch: str = "validation", **more: Any) -> list[Row]:
    rows = []
    for arm, curves in VALIDATION.items():
        for place, (seed, curve) in enumerate(zip(SEEDS, curves, strict=True)):
            metrics = {"test/score": float(TEST[arm][place])}
            if by_epoch == "validation":
                metrics["validation/score"] = float(max(curve))
            epochs = {
                epoch: {
                    f"{by_epoch}/score": float(value),
                    **{k: float(v[epoch - 1]) for k, v in more.items()},
                }
                for epoch, value in enumerate(curve, start=1)
            }
            cell = Cell("ablation", "finetune", seed, arm)
            result = {"metrics": metrics}
            rows.append(Row(0, cell, {}, "complete", STARTED_AT, STARTED_AT, epochs=epochs, result=result))
    return rows


def proposals(phase: str, values: dict[int, list[float]], first_seed: int) -> list[Row]:
    return [
        Row(
            0,
            Cell(phase, "finetune", first_seed + place, proposal=proposal),
            {},
            "complete",
            STARTED_AT,
            STARTED_AT,
            result={"metrics": {"validation/score": value}},
        )
        for proposal, of_proposal in values.items()
        for place, value in enumerate(of_proposal)
    ]


def write(write_study: Any, rows: list[Row], **changes: Any) -> Any:
    space = {**manifest()["space"], "arms": {"cont": {}, "+FSD": {}}, "controls": None, **SEARCH, "seeds": 3}
    families = [{"name": "f", "metric": "score", "arms": ["+FSD"], "against": "cont"}]
    seeds = {"search": [1], "confirm": [2], "ablation": {"ungated": list(SEEDS), "gated": None}}
    return write_study({}, others=rows, space={**space, "families": families}, seeds=seeds, **changes)


def row(frame: pd.DataFrame, choice: str, label: str) -> pd.Series:
    found = frame[(frame["choice"] == choice) & (frame["label"] == label)]
    assert len(found) == 1
    return found.iloc[0]


def numbers(frame: pd.DataFrame, choice: str, label: str) -> tuple[float, ...]:
    values = row(frame, choice, label)[["no_choice", "different_data", "same_data", "optimism"]]
    return tuple(float(value) for value in values)


def test_the_best_seed_on_validation_against_the_best_on_test(write_study: Any) -> None:
    frame = selection_bias(load_study(write(write_study, ablation())))
    # +FSD: validation 40 50 35 chooses the second seed, which has 34 on test; the best there has 45.
    assert numbers(frame, "seed", "+FSD") == pytest.approx(((28 + 34 + 45) / 3, 34, 45, 11))
    # cont: validation 30 40 26
    assert numbers(frame, "seed", "cont") == (30, 30, 35, 5)
    assert row(frame, "seed", "cont")["candidates"] == 3
    assert row(frame, "seed", "cont")["trials"] == (1, 2, 3)  # after a pretraining


def test_a_runs_best_epoch_against_that_of_the_other_seeds(write_study: Any) -> None:
    frame = selection_bias(load_study(write(write_study, ablation())))
    # cont, means of the others: 10 23 30 | 10 28 20 | 10 25 30, so epochs 3, 2, 3: 20 20 20; best 30 40 26
    assert numbers(frame, "epoch", "cont") == pytest.approx((80 / 3, 20, 32, 12))
    assert row(frame, "epoch", "cont")["judged_on"] == "validation"
    assert row(frame, "epoch", "cont")[["candidates", "n"]].tolist() == [3, 3]


def test_what_the_judging_videos_favour_in_all_seeds_is_said_to_be_left_out(write_study: Any) -> None:
    table = selection_bias_table(load_study(write(write_study, ablation())))
    said = " ".join(table.notes)
    assert "judged on the same videos" in said
    assert "what these videos favour in all seeds is not in it" in said
    assert "upper bound" not in said
    heads = {row.section for row in table.rows if row.section and "epochs" in row.section}
    assert heads == {
        "the best of a run's epochs, judged on validation; in place of different data: chosen on the arm's "
        "other seeds, on the same videos"
    }


def test_where_both_splits_are_known_by_epoch_the_best_on_validation_meets_the_best_on_test(
    write_study: Any,
) -> None:
    rows = ablation(**{"test/score": [9, 5, 7]})
    frame = selection_bias(load_study(write(write_study, rows)))
    # cont: validation chooses epochs 2, 3, 2, with 5, 7, 5 on test; the best there is always 9, the last 7
    assert numbers(frame, "epoch", "cont") == pytest.approx((7, 17 / 3, 9, 10 / 3))
    assert row(frame, "epoch", "cont")[["judged_on", "chosen_on"]].tolist() == ["test", "validation"]


def test_the_reference_protocol_has_no_other_data_to_choose_a_seed_on(write_study: Any) -> None:
    study = load_study(write(write_study, ablation("test"), protocol="reference"))
    frame = selection_bias(study)
    assert set(frame["choice"]) == {"seed", "epoch"}
    assert numbers(frame, "seed", "cont")[::2] == (30, 35)
    assert np.isnan(row(frame, "seed", "cont")["optimism"])
    assert row(frame, "epoch", "cont")["judged_on"] == "test"
    missing = {reason for _, _, reason in selection_bias_table(study).missing()}
    assert missing == {"the records have no value on validation to choose by"}


def test_gains_on_other_videos_are_no_measure_of_choosing(write_study: Any) -> None:
    study = load_study(write(write_study, ablation()))
    # validation 10 10 9, test 3 4 10
    _, test, validation, optimism = numbers(selection_bias(study), "gain", "+FSD")
    assert (test, validation) == pytest.approx((17 / 3, 29 / 3))
    assert np.isnan(optimism)
    table = selection_bias_table(study)
    assert ("+FSD", "optimism", "other videos too, so not a measure of choosing") in table.missing()
    assert table.rows[-1].section == "gain over cont, on test and, for comparison, on validation (same data)"


def without_epochs() -> list[Row]:
    return [replace(run, epochs={}) for run in ablation()]


def test_no_gain_is_compared_where_nothing_was_chosen_on_validation(write_study: Any) -> None:
    frame = selection_bias(load_study(write(write_study, without_epochs(), winner=None)))
    assert set(frame["choice"]) == {"seed"}


@pytest.mark.parametrize("chosen", ["settings", "epochs"])
def test_a_gain_is_compared_where_settings_or_epochs_were_chosen(write_study: Any, chosen: str) -> None:
    study = write(write_study, without_epochs()) if chosen == "settings" else None
    study = study or write(write_study, ablation(), winner=None)
    assert "gain" in set(selection_bias(load_study(study))["choice"])


def test_the_winners_curse(write_study: Any) -> None:
    rows = ablation() + proposals("search", {0: [50, 52], 1: [60, 62], 2: [55, 57], 3: [56, 58]}, 1)
    rows += proposals("confirm", {1: [50, 52, 54], 2: [53, 52, 54], 3: [51, 50, 52]}, 7)
    frame = selection_bias(load_study(write(write_study, rows)))
    # 61, 56, 57 on the search seeds; 52, 53, 51 on fresh ones
    assert numbers(frame, "proposal", "proposal 1") == (52, 52, 53, 1)
    assert numbers(frame, "lead", "proposal 1")[1:] == (0, 4.5, 4.5)


def test_a_metric_that_is_to_be_small_flatters_downwards(write_study: Any) -> None:
    study = load_study(write(write_study, ablation(), metrics={"score": "min"}))
    frame = selection_bias(study)
    assert numbers(frame, "seed", "+FSD") == pytest.approx(((28 + 34 + 45) / 3, 45, 28, 17))


def test_table(write_study: Any) -> None:
    rows = ablation() + proposals("search", {0: [50, 52], 1: [60, 62]}, 1)
    rows += proposals("confirm", {0: [50], 1: [49]}, 7)
    table = selection_bias_table(load_study(write(write_study, rows)))
    sections = list(dict.fromkeys(row.section for row in table.rows))
    assert sections[0] == "the best of an arm's seeds, judged on test; different data: chosen on validation"
    assert [cell.text for cell in table.rows[1].cells] == ["+FSD", "3", "35.7", "34.0", "45.0", "+11.0"]
    assert any("winner's curse" in note for note in table.notes)
    assert any("flatter +FSD by 9.3" in note for note in table.notes)
    assert any("Optimism 0 of a seed" in note and "without an interval" in note for note in table.notes)


def test_nothing_to_show(write_study: Any) -> None:
    with pytest.raises(NothingToShow, match="nothing has been chosen whose"):
        selection_bias(load_study(write_study({"cont": [1.0], "+FSD": ["running"]})))
