"""Numbers as text: intervals that agree with what is said of them, no sign before a 0."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis import ablation_table, load_study, print_ablation, write_ablation
from analysis._text import interval, number, signed
from analysis.conclusion import conclude
from analysis.report.story import tell
from analysis.tables import html, latex, markdown
from analysis.tables.comparisons import comparisons_table
from tests.analysis.made_up import CONT, gaining


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (-10.0, -0.04, "[−10.0, −0.04]"),
        (0.0004, 0.04, "[+0.0004, +0.04]"),
        (-0.051, 0.0, "[−0.1, 0.0]"),
        (-1e-14, 2.0, "[0.0, +2.0]"),
        (-0.00002, 12.34, "[−2e−05, +12.3]"),
        (float("nan"), float("nan"), "–"),
    ],
)
def test_an_end_of_an_interval_tells_on_which_side_of_0_it_lies(low: float, high: float, text: str) -> None:
    assert interval(low, high, 1) == text


def test_nothing_is_minus_0() -> None:
    assert (number(-0.04, 1), signed(-0.04, 1), number(-0.06, 1)) == ("0.0", "0.0", "−0.1")
    assert (signed(0.04, 1), signed(0.06, 1)) == ("0.0", "+0.1")


@pytest.mark.parametrize(("metric", "ends"), [("score", "[−4.1, −0.04]"), ("cost", "[+0.04, +4.1]")])
def test_the_interval_of_a_control_that_is_worse_is_nowhere_said_to_reach_0(
    write_study: Any, metric: str, ends: str
) -> None:
    # mean −2.09, sd 2.46, so ± 2.055
    control = gaining(-4.57, 0.89, -4.07, 0.39, -3.57, -0.11, -5.07, -0.61)
    values = {"cont": CONT, "FSD+LCS": CONT, "shuffled order": control}
    out = write_study(values, headline=metric)
    study = load_study(out)
    console = Console(file=io.StringIO(), width=120)
    table = comparisons_table(study)
    assert "shuffled order is worse" in conclude(study, ablation_table(study))
    print_ablation(out, console)
    assert ends in console.file.getvalue()
    assert ends in tell(study, ablation_table(study)).but
    assert ends in Path(write_ablation(out).paths["md"]).read_text()
    assert markdown.escape(ends) in markdown.render(table)
    assert ends in html.render(table)
    assert latex.escape(ends) in latex.render(table)
