from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.ablation import ablation_table
from analysis.load import load_study
from analysis.report.story import Story, hours, tell
from tests.analysis.made_up import manifest

BASE = [41.0, 42, 43, 44, 45, 46, 47, 48]


def shifted(*by: float) -> list[float]:
    return [value + step for value, step in zip(BASE, by, strict=True)]


BETTER = shifted(2, 2.1, 1.9, 2, 2.2, 1.8, 2, 2)
UNCLEAR = shifted(0.5, -0.5, 0.6, -0.4, 0.5, -0.6, 0.4, -0.5)
WORSE = shifted(-2, -2.1, -1.9, -2, -2.2, -1.8, -2, -2)


@pytest.fixture
def told(write_study: Callable[..., Path]) -> Callable[..., Story]:
    def tell_of(values: dict[str, list[float]], **changes: object) -> Story:
        study = load_study(write_study({"cont": BASE, **values}, **changes))
        return tell(study, ablation_table(study))

    return tell_of


def test_answer_has_effect_interval_p_and_n(told: Callable[..., Story]) -> None:
    story = told({"+FSD": BETTER, "+LCS": UNCLEAR, "FSD+LCS": WORSE})
    better, worse, unclear = story.answer.replace(". ", ".\n").splitlines()
    assert "better than cont’s with +FSD by +2.0 [+1.9, +2.1]" in better
    assert "over 8 paired seeds" in better and "sign-flip p = 0.0234" in better
    assert "worse than cont’s with FSD+LCS by −2.0 [−2.1, −1.9]" in worse
    assert "No difference from cont in score is shown for +LCS (0.0 [−0.5, +0.5])" in unclear


def test_smaller_is_better_where_the_metric_says_so(told: Callable[..., Story]) -> None:
    families = [{"name": "losses", "metric": "cost", "arms": ["+FSD"], "against": "cont"}]
    space = {**manifest()["space"], "families": families}
    answer = told({"+FSD": BETTER}, space=space, headline="cost").answer
    assert "cost is better than cont’s with +FSD by −2.0" in answer


def test_controls_that_do_as_well_are_named_against_the_gain(told: Callable[..., Story]) -> None:
    arms = {"+FSD": BETTER, "+LCS": BETTER, "FSD+LCS": BETTER}
    assert "not shown to come from" in told({**arms, "shuffled order": BETTER}).but
    lost = told({**arms, "shuffled order": BASE}).but
    assert "not shown" not in lost and "shuffled order (−2.0 [−2.1, −1.9]) is worse" in lost


def test_no_gain_is_doubted_where_none_is_shown(told: Callable[..., Story]) -> None:
    story = told({"+FSD": UNCLEAR, "+LCS": UNCLEAR, "FSD+LCS": UNCLEAR, "shuffled order": BASE})
    assert "not shown to differ" in story.but and "the gain" not in story.but


def test_one_seed_gives_no_answer(told: Callable[..., Story]) -> None:
    assert "No answer yet on score" in told({"+FSD": [50.0]}).answer


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.005, "18 seconds"), (0.5, "30 minutes"), (7.25, "7.2 hours"), (1234.5, "1234 hours")],
)
def test_time_spans_are_told_in_a_unit_that_suits(value: float, text: str) -> None:
    assert hours(value) == text
