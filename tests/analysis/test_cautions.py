from typing import Any

import pytest

from analysis import ablation_table, load_study
from analysis.cautions import Caution, cautions
from study.rows import Cell, Row
from tests.analysis.made_up import CONT, STARTED_AT, early_epoch, gaining, manifest

GAINS = {
    "acmnet": [-3, -4, -5, -3, -4, -5, -4, -3],
    "+FSD": [5, 6, 4, 7, 5, 6, 4, 5],
    "+LCS": [4, 6, 5, 4, 6, 5, 5, 4],
    "FSD+LCS": [8, 9, 7, 9, 8, 9, 7, 8],
    "shuffled order": [2, 3, 1, 2, 3, 2, 1, 2],
}
VALUES: dict[str, list[Any]] = {
    "cont": CONT,
    **{arm: gaining(*gains) for arm, gains in GAINS.items()},
}


def found(out: Any) -> dict[str, Caution]:
    study = load_study(out)
    return {caution.kind: caution for caution in cautions(study, ablation_table(study))}


def test_a_clear_result_leaves_only_what_no_result_can_lift(write_study: Any) -> None:
    assert set(found(write_study(VALUES))) == {"uncorrected"}


def test_only_intervals_that_there_are_count_as_uncorrected(write_study: Any) -> None:
    # Six comparisons on each of two metrics, three of them tested on one.
    assert found(write_study(VALUES))["uncorrected"].words.startswith("9 further intervals")
    # One pair has a difference, but no interval: acmnet on both metrics, +FSD where it is not tested.
    one_pair = {**VALUES, "acmnet": VALUES["acmnet"][:1], "+FSD": VALUES["+FSD"][:1]}
    assert found(write_study(one_pair))["uncorrected"].words.startswith("6 further intervals")


@pytest.mark.situation("input", "too few seeds for any p", "the report says how many would do")
def test_too_few_seeds_for_any_corrected_p(write_study: Any) -> None:
    # 3 · 2^(1 − 6) = 0.094 whatever the differences; 3 · 2^(1 − 7) = 0.047
    seeds = {"search": [1], "confirm": [2], "ablation": {"ungated": list(range(100, 106)), "gated": None}}
    space = {**manifest()["space"], "seeds": 6}
    caution = found(write_study(VALUES, seeds=seeds, space=space))["too few seeds"]
    assert caution.arms == ("+FSD", "+LCS", "FSD+LCS")
    assert "+FSD (6), +LCS (6), FSD+LCS (6)" in caution.words
    assert "7 seeds in each arm of the family of 3" in caution.words


def test_an_arm_that_lost_seeds_may_be_the_only_one_with_too_few(write_study: Any) -> None:
    lost = [*VALUES["+LCS"][:5], "diverged", "diverged", "diverged"]
    by_kind = found(write_study({**VALUES, "+LCS": lost}))
    # floors 1/128, 1/16, 1/128: times 3, 1, 2
    assert by_kind["too few seeds"].arms == ("+LCS",)
    assert by_kind["missing seeds"].arms == ("+LCS",)
    words = by_kind["missing seeds"].words
    assert "Of 8 seeds so many have no result: +LCS 3." in words and "runs seldom fail at random" in words


def test_runs_that_have_not_come_yet_flatter_no_arm(write_study: Any) -> None:
    waiting = [*VALUES["+LCS"][:5], "running", "waiting"]
    words = found(write_study({**VALUES, "+LCS": waiting}, finished=False))["missing seeds"].words
    assert words.endswith(": +LCS 3. A comparison rests on the seeds that both of its arms have.")


def test_an_interval_across_0_is_neither_a_difference_nor_none(write_study: Any) -> None:
    by_kind = found(write_study({**VALUES, "+LCS": gaining(3, -2, 2, -1, 4, 0, 1, -1)}))
    assert by_kind["interval across 0"].arms == by_kind["too little power"].arms == ("+LCS",)
    # mean 0.75, sd √(31.5 / 7) = 2.121, t(0.975, 7) · sd / √8 = 1.773
    assert "+LCS [−1.0, +2.5]" in by_kind["interval across 0"].words
    # g = 0.888 · 0.354 = 0.314: 110 by t at 0.05 / 3, one more by sign flips
    assert "+LCS more than 100 (has 8)" in by_kind["too little power"].words


def test_the_smallest_effect_is_not_left_out_of_the_seeds_needed(write_study: Any) -> None:
    # g = 0.888 · 1.125 / 2.900 = 0.345 needs 93; a mean of 0.0001 more than any number that is computed.
    small = gaining(4, -3, 3, -2, 5, 1, 2, -1)
    smallest = gaining(4.001, -4, 3, -3, 2, -2, 1, -1)
    by_kind = found(write_study({**VALUES, "+FSD": smallest, "+LCS": small}))
    words = by_kind["too little power"].words
    assert "more seeds: +FSD more than 100 (has 8), +LCS about 93 (has 8). An" in words


def test_interval_and_p_that_disagree(write_study: Any) -> None:
    # Six gains and two small losses: p = 8 / 256, twice that by Holm, but the t interval is [0.8, 5.3].
    values = gaining(4, 5, -1.5, 4, 5, -1, 4, 5)
    by_kind = found(write_study({**VALUES, "+FSD": values, "+LCS": values}))
    assert by_kind["disagreement"].arms == ("+FSD", "+LCS")
    assert "+LCS [+0.8, +5.3] with Holm p = 0.062" in by_kind["disagreement"].words
    assert "interval across 0" not in by_kind


def test_a_control_that_is_as_good(write_study: Any) -> None:
    by_kind = found(write_study({**VALUES, "shuffled order": VALUES["FSD+LCS"]}))
    assert by_kind["control as good"].arms == ("shuffled order",)
    assert by_kind["identical values"].arms == ("shuffled order", "FSD+LCS")


def test_choices_on_what_is_judged(write_study: Any) -> None:
    by_kind = found(write_study(VALUES, protocol="reference", finished=False))
    assert "chosen on the test videos" in by_kind["test selection"].words
    assert "would make its p values and intervals too good" in by_kind["unfinished"].words


def test_no_caution_of_choosing_where_nothing_was_chosen(write_study: Any) -> None:
    assert "test selection" not in found(write_study(VALUES, protocol="reference", winner=None))
    kept = found(write_study(VALUES, protocol="reference", winner=None, others=[early_epoch()]))
    assert kept["test selection"].words.startswith("Epochs were chosen on the test videos")


def test_seeds_of_the_search_in_the_ablation(write_study: Any) -> None:
    searched = [
        Row(0, Cell("search", "finetune", seed, proposal=0), {}, "complete", STARTED_AT)
        for seed in (100, 101, 7)
    ]
    assert "(100, 101)" in found(write_study(VALUES, others=searched))["same seeds"].words


def test_an_extension_after_results(write_study: Any) -> None:
    launches = [
        {"at": "2024-01-01T11:00:00+00:00", "command": [], "extension": []},
        {"at": "2024-01-02T11:00:00+00:00", "command": [], "extension": ["4 → 8 seeds of the ablation"]},
    ]
    assert "4 → 8 seeds of the ablation" in found(write_study(VALUES, launches=launches))["extended"].words
    launches[1]["at"] = "2023-12-31T11:00:00+00:00"  # before any had ended
    assert "extended" not in found(write_study(VALUES, launches=launches))


def test_settings_tuned_for_one_arm(write_study: Any) -> None:
    arms = {arm: {} if arm == "FSD+LCS" else {"finetune.x": 0} for arm in manifest()["space"]["arms"]}
    caution = found(write_study(VALUES, space={**manifest()["space"], "arms": arms}))["tuning"]
    assert caution.arms == ("FSD+LCS",)


def test_a_gate(write_study: Any) -> None:
    gate = {"metric": "score", "at_least": 30.0}
    seeds = {"search": [1], "confirm": [2]}
    ungated = list(range(100, 108))
    passed = {"ungated": ungated, "gated": [100, 101, 103, 104, 105, 106]}
    by_kind = found(write_study(VALUES, gate=gate, seeds={**seeds, "ablation": passed}))
    assert "2 of the first 8 did not" in by_kind["gate"].words
    assert "the arms' own results" not in by_kind["gate"].words
    recipe = {"name": "acmnet", "version": 1, "stages": ["pretrain"]}
    own = found(write_study(VALUES, gate=gate, seeds={**seeds, "ablation": passed}, recipe=recipe))
    assert "that arm looks better than it is: read the first seeds" in own["gate"].words
    assert "Only 6 of the 8 wanted seeds passed the gate" in by_kind["missing seeds"].words
    undecided = {"ungated": ungated, "gated": None}
    by_kind = found(write_study(VALUES, gate=gate, seeds={**seeds, "ablation": undecided}))
    assert "not decided yet" in by_kind["gate"].words


def test_an_arm_that_is_no_better_than_no_training(write_study: Any) -> None:
    by_kind = found(write_study(VALUES, context={"oracle": [43.0] * 8, "random": [2.0] * 8}))
    assert by_kind["context"].arms == ("acmnet",)
    assert "oracle needs no training" in by_kind["context"].words
    told = found(write_study(VALUES, context={"oracle-label windows": [43.0] * 8}))["context"]
    assert "oracle-label windows (told the labels of each test video) needs no training" in told.words


def test_no_result_at_all(write_study: Any) -> None:
    by_kind = found(write_study({arm: ["running"] * 8 for arm in VALUES}, finished=False))
    assert set(by_kind) == {"unfinished", "missing seeds", "too few seeds"}
