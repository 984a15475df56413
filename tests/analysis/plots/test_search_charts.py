"""Pictures of a search: stopped runs end where they stopped, n is said, large searches stay small."""

import functools
import io
import random
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.image import imread

from analysis.load import load_study
from analysis.plots import style
from analysis.plots.ablation import ablation_chart
from analysis.plots.contours import contours_chart
from analysis.plots.curves import arm_curves_chart, curves_chart
from analysis.plots.importance import importance_chart
from analysis.plots.parallel import parallel_chart
from analysis.plots.pretraining import pretraining_chart
from analysis.plots.regret import regret_chart
from analysis.plots.rungs import rungs_chart
from analysis.plots.sensitivity import grid_chart, sensitivity_chart
from analysis.plots.slices import slices_chart
from analysis.search.importance import importances
from analysis.tables.table import NothingToShow
from tests.analysis import made_up
from tests.analysis.searched import PARAMETERS, manifest_of, run, settings
from tests.analysis.tables.studies import write_searched

OF_SEARCH = (
    contours_chart,
    curves_chart,
    parallel_chart,
    regret_chart,
    rungs_chart,
    sensitivity_chart,
    slices_chart,
)
OF_STUDY = (*OF_SEARCH, grid_chart, importance_chart, ablation_chart, arm_curves_chart, pretraining_chart)


def searched(count, *, stop=lambda number: number % 3 == 2):
    """Return runs on two seeds, some of which were stopped on the second seed after two epochs."""
    generator = random.Random(0)
    runs = []
    for number in range(count):
        chosen = settings(generator.random(), 10 ** generator.uniform(-2, 0), generator.randint(1, 9))
        for seed in (1, 2):
            stopped = stop(number) and seed == 2
            curve = [chosen["finetune.a"] * epoch + generator.gauss(0, 0.1) for epoch in range(1, 5)]
            status = "stopped" if stopped else "complete"
            runs.append(
                run(number, seed, curve[:2] if stopped else curve, chosen, status=status, start_s=50 * number)
            )
    return runs


@pytest.fixture
def study(write_study):
    def write(runs, values=None, **changes):
        changes = {"space": manifest_of(), "winner": None} | changes
        return load_study(write_study(values or {}, others=runs, **changes))

    return write


@pytest.fixture
def few_resamples(monkeypatch):
    few = functools.partial(importances, resamples=2, chance_resamples=2)
    monkeypatch.setattr("analysis.plots.importance.importances", few)


def lines_of(axes):
    """Return the paths of the lines that a panel draws in bulk."""
    collections = [item for item in axes.collections if isinstance(item, LineCollection)]
    return [segment for collection in collections for segment in collection.get_segments()]


def test_stopped_runs_are_drawn_to_where_they_stopped_and_crossed(study):
    chart = curves_chart(study(searched(12)))
    first, second = (figure.axes[0] for figure in chart.figures)
    assert sorted(len(line) for line in lines_of(first)) == [4] * 12
    assert sorted(len(line) for line in lines_of(second)) == [2] * 4 + [4] * 8
    (crosses,) = (line for line in second.lines if line.get_marker() == "x")
    assert list(crosses.get_xdata()) == [2] * 4
    assert "n = 24 runs of 12 proposals" in chart.caption


def test_running_runs_end_in_a_ring(study):
    chart = curves_chart(study([run(0, 1, [1.0, 2.0], settings(), status="running")]))
    (ring,) = (line for line in chart.figures[0].axes[0].lines if line.get_marker() == "o")
    assert list(ring.get_xdata()) == [2]


def test_proposals_without_a_value_are_ticks_and_not_dots(study):
    chart = slices_chart(study(searched(12)))
    assert len(chart.figures) == len(PARAMETERS)
    dots, ticks, *_ = chart.figures[0].axes[0].lines
    assert len(dots.get_xdata()) == 8
    assert len(ticks.get_xdata()) == 4
    assert "8 complete proposals" in chart.caption


def test_every_chart_of_a_finished_search_can_be_saved_and_says_n(study):
    finished = study(searched(24))
    for function in OF_SEARCH:
        chart = function(finished)
        assert chart.title
        assert any(number in chart.caption for number in ("16", "24", "48")), chart.name
        assert {figure.get_figwidth() for figure in chart.figures} == {style.PANEL_IN}
        assert "<svg" in style.to_svg(chart.figures[0], variables=True)


def test_importance_warns_of_what_early_stopping_took_away(study, few_resamples):
    chart = importance_chart(study(searched(24)))
    assert len(chart.figures) == 4
    assert "From 16 of 24 proposals" in chart.caption
    assert "Of the others, 8 stopped early as weak" in chart.caption
    assert "(n = 24), by their preliminary value" in chart.caption


def test_proposals_that_still_run_are_not_called_stopped(study, few_resamples):
    runs = searched(10, stop=lambda _: False)
    runs += [run(10, seed, [1.0, 2.0], settings(), status="running") for seed in (1, 2)]
    running = study(runs)
    for chart in (importance_chart(running), sensitivity_chart(running)):
        assert "10" in chart.caption
        assert "stopped" not in chart.caption, chart.name


def test_importance_of_complete_searches_has_no_panel_of_preliminary_values(study, few_resamples):
    chart = importance_chart(study(searched(10, stop=lambda _: False)))
    assert len(chart.figures) == 3
    assert "stopped" not in chart.caption


def test_large_searches_are_drawn_in_part_and_say_so(study):
    large = study(searched(700))
    for function in (slices_chart, regret_chart, rungs_chart, parallel_chart):
        chart = function(large)
        assert "chosen at random" in chart.caption, chart.name
        assert len(style.to_svg(chart.figures[-1])) < 150_000, chart.name
    assert "24 × 24 cells" in contours_chart(large).caption
    assert "median" in curves_chart(large).caption


@pytest.mark.situation("input", "a study that has just started", "each picture says what it waits for")
def test_study_that_has_just_started_gives_reasons(study):
    fresh = study([run(0, 1, [1.0], settings(), status="running")])
    for function in set(OF_STUDY) - {curves_chart}:
        with pytest.raises(NothingToShow) as raised:
            function(fresh)
        assert str(raised.value)[0].islower(), function.__name__


def test_ablation_draws_every_seed_and_the_interval_of_the_table(study):
    values = {"cont": [1.0, 2.0, 3.0], "+FSD": [2.0, 4.0, 6.0], "+LCS": [1.0, 2.0]}
    chart = ablation_chart(study([], values))
    axes = chart.figures[0].axes[0]
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [list(line.get_xdata()) for line in dots] == [[0.0, 0.0], [1.0, 2.0, 3.0]]
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
    assert means == [0.0, 2.0]
    assert "n = 2 to 3" in chart.caption
    assert [text.get_text() for text in axes.get_yticklabels()] == ["+LCS", "+FSD"]


def test_ablation_names_the_comparisons_that_it_cannot_draw(study):
    values = {"cont": [1.0, 2.0, 3.0], "+FSD": [2.0, 4.0, 6.0], "+LCS": [1.0]}
    chart = ablation_chart(study([], values))
    assert [text.get_text() for text in chart.figures[0].axes[0].get_yticklabels()] == ["+FSD"]
    left_out = chart.caption.partition("Left out, with fewer than two pairs: ")[2]
    assert "+LCS minus cont" in left_out
    assert "+FSD minus cont" not in left_out


def test_names_of_arms_are_drawn_as_they_are_in_lines_that_fit(tmp_path):
    names = ("cont", r"a $\x$ & <b>", "an arm that has a rather long name")
    space = made_up.manifest()["space"] | {
        "arms": {name: {} for name in names},
        "families": [],
        "controls": None,
    }
    values = {name: [50.0 + i + place for i in range(8)] for place, name in enumerate(names)}
    made_up.write_study(tmp_path / "names", values, space=space)
    chart = ablation_chart(load_study(tmp_path / "names"))
    assert "Left out" not in chart.caption
    [drawing] = chart.figures
    [labels] = [[label.get_text() for label in axes.get_yticklabels()] for axes in drawing.axes]
    assert r"a $\x$ & <b>" in labels
    assert "an arm that has a\nrather long name" in labels
    assert r"a $\x$ &amp; &lt;b&gt;" in style.to_svg(drawing)


def test_charts_of_arms_name_those_that_they_leave_out(tmp_path):
    searched = load_study(write_searched(tmp_path / "searched"))
    chart = pretraining_chart(searched)
    (legend,) = chart.figures[-1].legends
    assert [text.get_text() for text in legend.get_texts()] == ["cont", "+FSD", "both", "γ=0.1", "γ=1"]
    assert "at most 5; left out: acmnet, γ=0 and shuffled." in chart.caption
    assert "the line at 0 is cont itself. Mean" in arm_curves_chart(searched).caption
    trials = searched.trials
    lost = trials["arm"].isin(["acmnet", "γ=0"])
    fewer = replace(searched, trials=trials.assign(status=trials["status"].mask(lost, "failed")))
    words = "Left out, without an epoch in common with it: acmnet and γ=0."
    assert words in arm_curves_chart(fewer).caption


def test_grid_of_arms_is_drawn_in_the_order_of_its_values(study):
    arms = {
        "cont": {"x.gamma": 2.0},
        "ten": {"x.gamma": 10.0},
        "none": {"x.gamma": 0.0},
        "one": {"x.gamma": 1},
    }
    space = made_up.manifest()["space"] | {"arms": arms, "families": [], "controls": None}
    space |= {"definition": {"fixed": {}, "search": None, "ablation": {"arms": arms}}}
    values = {"cont": [1.0, 1.0], "ten": [11.0, 11.0], "none": [1.0, 1.0], "one": [2.0, 2.0]}
    (figure,) = grid_chart(study([], values, space=space)).figures
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["0", "1", "2", "10"]
    (means,) = (line for line in axes.lines if line.get_marker() == "D")
    assert list(means.get_ydata()) == [0, 1, 0, 10]


def test_colours_of_an_svg_follow_the_page(study):
    (figure,) = parallel_chart(study(searched(6))).figures
    text = style.to_svg(figure, variables=True)
    assert "var(--ink)" in text
    assert style.INK not in text
    assert style.INK in style.to_svg(figure)


def test_png_is_twice_as_fine_as_a_phone_shows_it(study):
    (figure,) = parallel_chart(study(searched(6))).figures
    assert imread(io.BytesIO(style.to_png(figure))).shape[1] == pytest.approx(style.PANEL_IN * 96 * 2, abs=1)


def test_samples_are_all_or_the_same_part_each_time():
    assert style.sampled(3, 5).tolist() == [0, 1, 2]
    part = style.sampled(1000, 5)
    assert len(set(part)) == 5
    assert (np.diff(part) > 0).all()
    assert (style.sampled(1000, 5) == part).all()
