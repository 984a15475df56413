"""Pictures of single videos, alignments and errors: what is in them, and what their captions admit."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import LineCollection, PathCollection

from analysis.load import load_study
from analysis.plots.alignment import alignment_charts
from analysis.plots.errors import errors_charts
from analysis.plots.style import Chart, to_svg
from analysis.plots.timeline import timeline_chart, timeline_charts
from analysis.tables.table import NothingToShow
from study.records import details_name
from tests.analysis.localization import looked_at


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return looked_at.write(tmp_path / "out")


def test_timelines_show_every_recorded_video_in_both_arms_and_say_how_they_were_chosen(out: Path) -> None:
    charts = timeline_charts(load_study(out))
    assert [chart.name for chart in charts] == ["timeline-v1", "timeline-v0", "timeline-v2"]
    for chart in charts:
        assert [figure.axes[0].get_title("left") for figure in chart.figures] == [
            "cont, seed 0",
            "FSD+LCS, seed 0",
        ]
        assert "chosen by rule" in chart.caption
        assert "cont: 2 annotated segments, 3 proposals, of which 1 found one" in chart.caption


def test_a_timeline_draws_all_proposals_and_the_same_scales_in_all_arms(out: Path) -> None:
    chart = timeline_chart(load_study(out), "v2", ["FSD+LCS", "cont"])
    limits = set()
    for figure in chart.figures:
        _, proposals, activation, attention = figure.axes
        unsure, right = (lines for lines in proposals.collections if isinstance(lines, LineCollection))
        assert (len(unsure.get_segments()), len(right.get_segments())) == (2, 1)
        assert right.get_segments()[0].tolist() == [[2.0, 0.9], [5.0, 0.9]]
        # Classes annotated or proposed: IR and TRAP, not ER.
        assert len(activation.lines) == 2
        assert len(attention.lines) == 3
        limits.add((proposals.get_ylim(), activation.get_xlim()))
    assert len(limits) == 1


def test_alignments_draw_table_expected_alignment_and_path(out: Path) -> None:
    charts = alignment_charts(load_study(out))
    assert [chart.name for chart in charts] == ["alignment-fsd-v1-v0", "alignment-lcs-v1-v0"]
    for chart, length in zip(charts, (3, 6), strict=True):
        for figure in chart.figures:
            axes = figure.axes[0]
            assert axes.images[0].get_array().shape == (length, length)
            assert axes.lines[-1].get_xydata().tolist() == [[i, i] for i in range(length)]
            (dots,) = (part for part in axes.collections if isinstance(part, PathCollection))
            assert len(dots.get_offsets()) == length
        assert "cont trains without" in chart.caption
    assert "as it was drawn at first" in charts[0].caption


def test_alignments_of_older_records_are_tables_without_a_path(tmp_path: Path) -> None:
    charts = alignment_charts(load_study(looked_at.write(tmp_path / "older", older=True)))
    assert all("no path is drawn" in chart.caption for chart in charts)
    assert all(not figure.axes[0].lines for chart in charts for figure in chart.figures)


def test_errors_draw_every_seed_and_say_how_many(out: Path) -> None:
    study = load_study(out)
    (out / details_name(0)).unlink()  # errors need no details
    profile, gains, sensitivity = errors_charts(study)
    assert [figure.axes[0].get_title("left") for figure in profile.figures] == ["cont", "FSD+LCS"]
    heights = sum(bar.get_height() for bar in profile.figures[0].axes[0].patches if bar.get_x() < 1)
    assert heights == pytest.approx(100)
    dots = [part for part in gains.figures[0].axes[0].collections if isinstance(part, PathCollection)]
    assert [len(part.get_offsets()) for part in dots] == [3 * 5, 3 * 5]
    assert len(sensitivity.figures) == 2
    for chart in (profile, gains, sensitivity):
        assert "cont 3, FSD+LCS 3" in chart.caption


def test_pictures_are_narrow_enough_for_a_phone_and_small(out: Path) -> None:
    study = load_study(out)
    charts: list[Chart] = [*timeline_charts(study), *alignment_charts(study), *errors_charts(study)]
    for figure in (figure for chart in charts for figure in chart.figures):
        assert figure.get_figwidth() <= 3.55
    assert len(to_svg(charts[0].figures[0])) < 100_000


def test_a_study_of_one_kind_of_training_has_no_pair_to_align(out: Path) -> None:
    for path in (out / "details").iterdir():
        with np.load(path) as arrays:
            single = {name: array for name, array in arrays.items() if "|" not in name}
        np.savez(path, **single)
    with pytest.raises(NothingToShow, match="keep no pair of videos"):
        alignment_charts(load_study(out))
