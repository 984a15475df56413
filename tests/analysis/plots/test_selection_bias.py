from typing import Any

import pytest

from analysis import load_study
from analysis.plots.selection_bias import selection_bias_chart
from analysis.plots.style import to_svg
from analysis.tables.table import NothingToShow
from study.rows import Cell, Row
from tests.analysis.made_up import STARTED_AT

SEEDS = range(100, 104)


def runs(arm: str, by_epoch: dict[int, list[float]], test: list[float]) -> list[Row]:
    return [
        Row(
            0,
            Cell("ablation", "finetune", seed, arm),
            {},
            "complete",
            STARTED_AT,
            STARTED_AT,
            epochs={epoch: {"validation/score": values[place]} for epoch, values in by_epoch.items()},
            result={"metrics": {"test/score": test[place], "validation/score": by_epoch[2][place]}},
        )
        for place, seed in enumerate(SEEDS)
    ]


def test_marks_stand_at_the_values(write_study: Any) -> None:
    rows = runs("cont", {1: [1, 2, 3, 4], 2: [5, 6, 7, 9]}, [10, 13, 12, 11])
    chart = selection_bias_chart(load_study(write_study({}, others=rows)))
    seeds, epochs = chart.figures
    marks = {line.get_label(): list(line.get_xdata()) for line in seeds.axes[0].lines}
    assert (marks["mean of all"], marks["best on validation"], marks["best on test"]) == ([11.5], [11], [13])
    assert epochs.axes[0].get_xlabel() == "score on validation"
    assert "leaves out what the videos of validation favour in all seeds" in chart.caption
    assert "Of seeds, the distance from the bar is luck too: another training gives the mean" in chart.caption
    assert "without an interval" in chart.caption
    assert "upper bound" not in chart.caption
    assert "cont" in to_svg(seeds)


def test_nothing_to_choose_from(write_study: Any) -> None:
    with pytest.raises(NothingToShow):
        selection_bias_chart(load_study(write_study({"cont": [1.0]})))
