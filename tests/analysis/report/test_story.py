from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.ablation import ablation_table
from analysis.load import load_study
from analysis.report.provenance import facts
from analysis.report.story import Story, hours, tell
from study.rows import Cell
from tests.analysis.made_up import CONT, early_epoch, gaining, manifest
from tests.analysis.searched import definition

BETTER = gaining(2, 2.1, 1.9, 2, 2.2, 1.8, 2, 2)
UNCLEAR = gaining(0.5, -0.5, 0.6, -0.4, 0.5, -0.6, 0.4, -0.5)
WORSE = gaining(-2, -2.1, -1.9, -2, -2.2, -1.8, -2, -2)


@pytest.fixture
def told(write_study: Callable[..., Path]) -> Callable[..., Story]:
    def tell_of(values: dict[str, list[float]], **changes: object) -> Story:
        study = load_study(write_study({"cont": CONT, **values}, **changes))
        return tell(study, ablation_table(study))

    return tell_of


def test_answer_has_effect_interval_p_and_n(told: Callable[..., Story]) -> None:
    story = told({"+FSD": BETTER, "+LCS": UNCLEAR, "FSD+LCS": WORSE})
    better, worse, unclear = story.answer.replace(". ", ".\n").splitlines()
    assert "better than cont’s with +FSD (+2.0 [+1.9, +2.1])" in better
    assert "over 8 paired seeds" in better and "sign-flip p = 0.0234" in better
    assert "worse than cont’s with FSD+LCS (−2.0 [−2.1, −1.9])" in worse
    assert "No difference from cont in score is shown for +LCS (0.0 [−0.5, +0.5])" in unclear


def test_smaller_is_better_where_the_metric_says_so(told: Callable[..., Story]) -> None:
    families = [{"name": "losses", "metric": "cost", "arms": ["+FSD"], "against": "cont"}]
    space = {**manifest()["space"], "families": families}
    answer = told({"+FSD": BETTER}, space=space, headline="cost").answer
    assert "cost is better than cont’s with +FSD (−2.0 [" in answer


def test_controls_that_do_as_well_are_named_against_the_gain(told: Callable[..., Story]) -> None:
    arms = {"+FSD": BETTER, "+LCS": BETTER, "FSD+LCS": BETTER}
    assert "not shown to come from" in told({**arms, "shuffled order": BETTER}).but
    lost = told({**arms, "shuffled order": CONT}).but
    assert "not shown" not in lost and "shuffled order (−2.0 [−2.1, −1.9]) is worse" in lost


def test_no_gain_is_doubted_where_none_is_shown(told: Callable[..., Story]) -> None:
    story = told({"+FSD": UNCLEAR, "+LCS": UNCLEAR, "FSD+LCS": UNCLEAR, "shuffled order": CONT})
    assert "not shown to differ" in story.but and "the gain" not in story.but


def test_intervals_of_controls_are_said_to_be_uncorrected_and_untested(told: Callable[..., Story]) -> None:
    story = told({"+FSD": BETTER, "+LCS": UNCLEAR, "FSD+LCS": BETTER, "shuffled order": CONT})
    assert "against FSD+LCS in score (95 % intervals, not corrected, no test), shuffled" in story.but
    better, unclear = story.answer.replace(". ", ".\n").splitlines()
    assert "its 95 % interval (of each comparison alone) over" in better
    assert "[−0.5, +0.5]), with the 95 % interval of each comparison alone, over" in unclear


def test_seeds_that_a_gate_chose_are_named_in_the_answer(told: Callable[..., Story]) -> None:
    changes = {
        "gate": {"metric": "score", "at_least": 30.0},
        "seeds": {"ablation": {"ungated": list(range(100, 108)), "gated": list(range(100, 108))}},
    }
    assert "over 8 paired seeds that passed the gate;" in told({"+FSD": BETTER}, **changes).answer
    assert "gate" not in told({"+FSD": BETTER}).answer


def searched_study(**changes: object) -> dict[str, object]:
    """Return a search on seeds 1 and 2, confirmed on seeds 3 and 4, as changes of a study."""
    rows = [early_epoch()]
    for phase, seeds in (("search", (2,)), ("confirm", (3, 4))):
        cells = [Cell(phase, "finetune", seed, proposal=0) for seed in seeds]
        rows += [replace(rows[0], cell=cell) for cell in cells]
    return {"others": rows, "space": {**manifest()["space"], "definition": definition()}, **changes}


def test_what_the_winner_won_on_is_told(told: Callable[..., Story]) -> None:
    text = " ".join(told({}, **searched_study()).paragraphs)
    assert "with 2 fresh seeds; the best mean over all 4 seeds is the winner. Settings and epochs" in text
    assert "were chosen on validation videos; the ablation ran with other seeds." in text
    assert "seeds will be the winner. Epochs" in " ".join(told({}, **searched_study(winner=None)).paragraphs)


def test_seeds_that_search_and_ablation_share_are_not_called_others(told: Callable[..., Story]) -> None:
    seeds = {"ablation": {"ungated": [1, 2, 101], "gated": None}}
    text = " ".join(told({}, **searched_study(seeds=seeds)).paragraphs)
    assert "were chosen on validation videos." in text and "other seeds" not in text


def test_epochs_may_be_all_that_was_chosen(told: Callable[..., Story]) -> None:
    space = {**manifest()["space"], "definition": {"search": None}}
    found = told({}, space=space, winner=None, others=[early_epoch()]).paragraphs
    assert any(text.endswith("defaults. Epochs were chosen on validation videos.") for text in found)
    assert any(text.endswith("defaults.") for text in told({}, space=space, winner=None).paragraphs)


def test_what_needs_no_training_but_is_told_labels_is_said_to_be(told: Callable[..., Story]) -> None:
    context = {"random windows": [2.0] * 8, "oracle-label windows": [28.0] * 8}
    text = " ".join(told({"+FSD": BETTER}, context=context).paragraphs)
    assert "random windows 2.0 and oracle-label windows 28.0 (told the labels of each test video)." in text


def test_scores_without_training_are_no_trials(write_study: Callable[..., Path]) -> None:
    study = load_study(write_study({"cont": CONT}, context={"random windows": [2.0] * 8}))
    trials = next(fact.value for fact in facts(study) if fact.name == "Trials")
    assert trials == "9: 9 complete; 8 scores without training"


def test_one_seed_gives_no_answer(told: Callable[..., Story]) -> None:
    assert "No answer yet on score" in told({"+FSD": [50.0]}).answer


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.005, "18 seconds"), (0.5, "30 minutes"), (7.25, "7.2 hours"), (1234.5, "1234 hours")],
)
def test_time_spans_are_told_in_a_unit_that_suits(value: float, text: str) -> None:
    assert hours(value) == text
