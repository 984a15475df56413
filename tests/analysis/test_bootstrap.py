import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import load_study
from analysis.bootstrap import _ahead, _draw, _mean_average_precision, video_bootstrap, video_bootstrap_table
from analysis.localization.evaluation import as_detections, read_ground_truth
from analysis.tables.table import NothingToShow
from ftcl.evaluation import (
    TIOU_THRESHOLDS,
    Detections,
    GroundTruth,
    detection_map,
    metric_thresholds,
    metrics,
)
from study.records import open_store, predictions_name, write_predictions

HEADLINE = "mAP@0.1:0.7"
ARMS = ("cont", "+FSD")
CLASSES = ("catch", "jump", "throw")
NUM_VIDEOS, NUM_SEEDS = 12, 3


def make_ground_truth(generator: np.random.Generator) -> GroundTruth:
    video = np.repeat(np.arange(NUM_VIDEOS - 1), 3)  # the last video has no segment
    start_s = np.tile([0.0, 10.0, 20.0], NUM_VIDEOS - 1) + generator.uniform(0, 3, len(video))
    return GroundTruth(
        videos=tuple(f"v{index}" for index in range(NUM_VIDEOS)),
        classes=CLASSES,
        duration_s=np.full(NUM_VIDEOS, 30.0),
        video=video,
        label=generator.integers(0, len(CLASSES), len(video)),
        start_s=start_s,
        end_s=start_s + generator.uniform(2, 6, len(video)),
    )


def make_detections(truth: GroundTruth, generator: np.random.Generator, noise: float) -> Detections:
    """Three shifted copies of each segment and as many false ones; scores of two digits, so that some tie."""
    copies = np.tile(np.arange(len(truth.label)), 3)
    jitter = generator.normal(0, noise, (2, len(copies)))
    num_false = len(copies)
    false_start = generator.uniform(0, 25, num_false)
    return Detections(
        truth.videos,
        truth.classes,
        np.concatenate([truth.video[copies], generator.integers(0, NUM_VIDEOS, num_false)]),
        np.concatenate([truth.label[copies], generator.integers(0, len(CLASSES), num_false)]),
        np.concatenate([truth.start_s[copies] + jitter[0], false_start]),
        np.concatenate([truth.end_s[copies] + jitter[1], false_start + generator.uniform(1, 5, num_false)]),
        np.round(generator.uniform(0, 1, len(copies) + num_false), 2),
    )


@pytest.fixture
def out(write_study: Any) -> Path:
    """A study of two arms and three seeds whose detections give its records."""
    truth = make_ground_truth(np.random.default_rng(1))
    generator = np.random.default_rng(2)
    found = {
        arm: [make_detections(truth, generator, noise) for _ in range(NUM_SEEDS)]
        for arm, noise in zip(ARMS, (1.5, 0.9), strict=True)
    }
    values = {
        arm: [metrics(detection_map(truth, one, TIOU_THRESHOLDS))[HEADLINE] for one in runs]
        for arm, runs in found.items()
    }
    seeds = list(range(100, 100 + NUM_SEEDS))
    folder: Path = write_study(
        values,
        metrics={HEADLINE: "max"},
        headline=HEADLINE,
        space={
            "name": "two",
            "title": "Two arms",
            "recipe": "ftcl",
            "data": "watch",
            "arms": {arm: {} for arm in ARMS},
            "baseline": "cont",
            "families": [{"name": "f", "metric": HEADLINE, "arms": ["+FSD"], "against": "cont"}],
            "controls": None,
            "seeds": NUM_SEEDS,
            "definition": {},
        },
        seeds={"search": [1], "confirm": [2], "ablation": {"ungated": seeds, "gated": None}},
    )
    store = open_store(folder)
    for trial, one in enumerate(run for arm in ARMS for run in found[arm]):
        columns = {
            "video": np.array(one.videos, dtype=object)[one.video],
            "label": np.array(one.classes, dtype=object)[one.label],
            **{name: getattr(one, name) for name in ("start_s", "end_s", "score")},
        }
        write_predictions(store, predictions_name(trial), columns)
    database: dict[str, Any] = {
        name: {"subset": "test", "duration": 30.0, "annotations": []} for name in truth.videos
    }
    for video, label, *segment in zip(truth.video, truth.label, truth.start_s, truth.end_s, strict=True):
        database[truth.videos[video]]["annotations"].append(
            {"label": CLASSES[label], "segment": [float(end) for end in segment]}
        )
    store.write("ground_truth.json", json.dumps({"database": database}).encode())
    return folder


def draw_videos(truth: GroundTruth, found: Detections, times: Any) -> tuple[GroundTruth, Detections]:
    """The drawn videos as videos of their own."""
    names, segments, detections, video_of_segment, video_of_detection = [], [], [], [], []
    for video, count in enumerate(times.astype(int)):
        for copy in range(count):
            own, hits = np.flatnonzero(truth.video == video), np.flatnonzero(found.video == video)
            segments.append(own)
            detections.append(hits)
            video_of_segment.append(np.full(len(own), len(names)))
            video_of_detection.append(np.full(len(hits), len(names)))
            names.append(f"{truth.videos[video]}/{copy}")
    s, d = np.concatenate(segments), np.concatenate(detections)
    return (
        GroundTruth(
            tuple(names),
            truth.classes,
            np.full(len(names), 30.0),
            np.concatenate(video_of_segment),
            truth.label[s],
            truth.start_s[s],
            truth.end_s[s],
        ),
        Detections(
            tuple(names),
            found.classes,
            np.concatenate(video_of_detection),
            found.label[d],
            found.start_s[d],
            found.end_s[d],
            found.score[d],
        ),
    )


def test_every_draw_scores_as_its_videos_do_when_they_are_evaluated() -> None:
    generator = np.random.default_rng(5)
    truth = make_ground_truth(generator)
    found = make_detections(truth, generator, 1.0)
    # Ties between videos are broken by their order, which copies cannot keep: here there are none.
    found = replace(found, score=generator.permutation(len(found)) / len(found))
    draws = _draw(truth, 40, seed=3)
    values = 100 * _mean_average_precision(truth, found, metric_thresholds(HEADLINE), draws)
    expected = [
        metrics(detection_map(*draw_videos(truth, found, times), TIOU_THRESHOLDS))[HEADLINE]
        for times in draws.times_VR.T
    ]
    assert draws.times_VR.shape == (NUM_VIDEOS, 41)
    assert np.ptp(expected) > 5
    np.testing.assert_allclose(values, expected, atol=1e-4)


def test_interval_is_that_of_the_seeds_mean_difference_over_the_same_draws(out: Path) -> None:
    study = load_study(out)
    row = video_bootstrap(study, num_resamples=200, seed=4).iloc[0]
    truth = read_ground_truth(study)
    draws = _draw(truth, 200, seed=4)
    values = [
        100
        * _mean_average_precision(
            truth, as_detections(study.predictions(trial), truth), metric_thresholds(HEADLINE), draws
        )
        for trial in range(2 * NUM_SEEDS)
    ]
    differences = np.mean(values[NUM_SEEDS:], axis=0) - np.mean(values[:NUM_SEEDS], axis=0)
    assert (row["arm"], row["baseline"], row["n"], row["n_videos"]) == ("+FSD", "cont", 3, NUM_VIDEOS)
    assert row["diff"] == pytest.approx(differences[0])
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(np.quantile(differences[1:], [0.025, 0.975]))
    assert row["better"] == (differences[1:] > 0).mean()
    assert row["bias"] == pytest.approx(differences[1:].mean() - differences[0])
    assert row["trials"] == (3, 0, 4, 1, 5, 2)


def test_table_says_what_it_is(out: Path) -> None:
    table = video_bootstrap_table(load_study(out))
    assert table.title == "Test-set variance: mAP@0.1:0.7 on watch"
    assert any("says nothing of other training seeds" in note for note in table.notes)
    assert [cell.text for cell in table.rows[0].cells[:2]] == ["+FSD", "3"]


def test_table_says_what_its_intervals_leave_out(out: Path) -> None:
    table = video_bootstrap_table(load_study(out))
    said = " ".join(table.notes)
    assert "12 videos each are cut from the recordings of one person and side" in said
    assert "Neither interval holds both: for other seeds on other videos it is wider than either" in said
    off = table.long["bias"].abs().max()
    assert f"lies up to {off:.2f} from the difference" in said


def test_certainty_is_claimed_no_finer_than_the_draws() -> None:
    assert [_ahead(better, 1_000) for better in (1.0, 0.999, 0.5, 0.001, 0.0)] == [
        "> 99.9 %",
        "99.9 %",
        "50.0 %",
        "0.1 %",
        "< 0.1 %",
    ]


def test_two_studies_stand_side_by_side(out: Path) -> None:
    study = load_study(out)
    table = video_bootstrap_table(study, replace(study, data="thumos14"))
    assert table.title == "Test-set variance: watch; thumos14"
    assert len(table.columns) == 11
    assert list(table.long["data"]) == ["watch", "thumos14"]


@pytest.mark.situation("storage", "detections of some runs are lost", "their seeds are left out, and counted")
def test_a_seed_without_detections_is_left_out_of_both_arms(out: Path) -> None:
    (out / predictions_name(1)).unlink()
    row = video_bootstrap(load_study(out), num_resamples=20).iloc[0]
    assert (row["n"], row["trials"]) == (2, (3, 0, 5, 2))
    [(_, column, reason)] = video_bootstrap_table(load_study(out)).missing()
    assert column == "seeds"
    assert video_bootstrap_table(load_study(out)).rows[0].cells[1].text == "2 of 3"
    assert "predictions/1.parquet is missing" in reason
    for trial in (0, 2):
        (out / predictions_name(trial)).unlink()
    with pytest.raises(NothingToShow, match=r"no two runs .*predictions/0\.parquet is missing"):
        video_bootstrap(load_study(out))


@pytest.mark.situation("storage", "detections are not those of their trial's record", "they are not counted")
def test_detections_of_another_run_are_refused(out: Path) -> None:
    (out / predictions_name(1)).write_bytes((out / predictions_name(2)).read_bytes())
    row = video_bootstrap(load_study(out), num_resamples=20).iloc[0]
    assert (row["n"], row["trials"]) == (2, (3, 0, 5, 2))
    assert re.search(r"predictions/1\.parquet gives mAP@0\.1:0\.7 = .* trial 1 says", row["left_out"])


def test_a_headline_of_another_kind_has_no_such_view(write_study: Any) -> None:
    with pytest.raises(NothingToShow, match="score is no mean average precision"):
        video_bootstrap(load_study(write_study({"cont": [1.0, 2.0], "+FSD": [2.0, 3.0]})))


def test_without_annotations_there_is_no_such_view(out: Path) -> None:
    (out / "ground_truth.json").unlink()
    with pytest.raises(NothingToShow, match="annotations of the test videos are not among the records"):
        video_bootstrap(load_study(out))
