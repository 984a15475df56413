import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcl.evaluation import (
    TIOU_THRESHOLDS,
    Detections,
    GroundTruth,
    detection_map,
    detection_map_reference,
    match_detections,
)

VIDEOS = ("v0", "v1", "v2", "v3")
CLASSES = ("jump", "run", "throw")


def ground_truth(*rows, videos=VIDEOS, classes=CLASSES):
    """Rows of (video, label, start, end), by index."""
    columns = np.array(rows, dtype=float).reshape(-1, 4).T
    return GroundTruth(
        videos,
        classes,
        np.full(len(videos), 100.0),
        columns[0].astype(int),
        columns[1].astype(int),
        columns[2],
        columns[3],
    )


def detections(*rows, videos=VIDEOS, classes=CLASSES):
    """Rows of (video, label, start, end, score), by index."""
    columns = np.array(rows, dtype=float).reshape(-1, 5).T
    return Detections(videos, classes, columns[0].astype(int), columns[1].astype(int), *columns[2:])


def average_precision(truth, found, threshold=0.5, **options):
    return detection_map(truth, found, [threshold], **options).average_precision[0]


def test_precision_envelope_and_recall_steps_by_hand():
    truth = ground_truth((0, 0, 0, 10), (0, 0, 20, 30), (1, 0, 0, 10))
    found = detections(
        (0, 0, 0, 10, 0.9),  # right: precision 1, recall 1/3
        (0, 0, 50, 60, 0.8),
        (1, 0, 0, 10, 0.7),  # right: precision 2/3
        (0, 0, 70, 80, 0.6),
        (0, 0, 20, 30, 0.5),  # right: precision 3/5
    )
    assert average_precision(truth, found) == pytest.approx([(1 + 2 / 3 + 3 / 5) / 3])


def test_precision_is_the_best_at_that_recall_or_beyond():
    truth = ground_truth((0, 0, 0, 10), (0, 0, 20, 30))
    found = detections((0, 0, 50, 60, 0.9), (0, 0, 0, 10, 0.8), (0, 0, 20, 30, 0.7))
    assert average_precision(truth, found) == pytest.approx([2 / 3])


def test_a_ground_truth_is_matched_once():
    truth = ground_truth((0, 0, 0, 10))
    found = detections((0, 0, 0, 10, 0.5), (0, 0, 0, 9, 0.9))
    # The surer one takes it although the other overlaps it better; the other is then wrong.
    assert average_precision(truth, found) == pytest.approx([1.0])
    matched_second = detections((0, 0, 40, 50, 0.95), (0, 0, 0, 10, 0.5), (0, 0, 0, 9, 0.9))
    assert average_precision(truth, matched_second) == pytest.approx([0.5])


def test_a_prediction_falls_back_on_a_free_ground_truth():
    truth = ground_truth((0, 0, 0, 10), (0, 0, 1, 11))
    found = detections((0, 0, 0, 10, 0.9), (0, 0, 0, 10, 0.8))
    assert average_precision(truth, found) == pytest.approx([1.0])


def test_a_prediction_turned_away_late_still_gets_its_second_choice():
    # All want the first ground truth most; the surest gets it, and each loser moves on to the next one.
    truth = ground_truth((0, 0, 0, 10), (0, 0, 1, 11), (0, 0, 2, 12))
    found = detections((0, 0, 0, 10, 0.7), (0, 0, 0, 10, 0.8), (0, 0, 0, 10, 0.9))
    assert average_precision(truth, found, 0.6) == pytest.approx([1.0])
    assert average_precision(truth, found, 0.7) == pytest.approx([2 / 3])


def test_matches_name_the_detection_that_found_each_segment():
    truth = ground_truth((0, 0, 0, 10), (0, 0, 20, 30), (1, 1, 0, 10), (2, 2, 0, 10))
    found = detections(
        (1, 1, 0, 6, 0.2),  # tIoU 0.6
        (0, 0, 0, 9, 0.3),
        (0, 0, 0, 10, 0.9),  # surer than the one above, so it finds the first segment
        (1, 0, 0, 10, 0.8),  # another class than the video's
    )
    assert match_detections(truth, found, [0.5, 0.7]).tolist() == [[2, -1, 0, -1], [2, -1, -1, -1]]
    nothing = match_detections(truth, detections(), [0.5])
    assert nothing.tolist() == [[-1, -1, -1, -1]]


def test_equal_scores_keep_the_input_order():
    truth = ground_truth((0, 0, 0, 10))
    right, wrong = (0, 0, 0, 10, 0.5), (0, 0, 50, 60, 0.5)
    assert average_precision(truth, detections(right, wrong)) == pytest.approx([1.0])
    assert average_precision(truth, detections(wrong, right)) == pytest.approx([0.5])


def test_equal_tious_match_the_later_ground_truth():
    truth = ground_truth((0, 0, 0, 8), (0, 0, 2, 10))
    # The first overlaps both by 0.8 and takes [2, 10]; only [0, 8] is left for the second.
    assert average_precision(truth, detections((0, 0, 0, 10, 0.9), (0, 0, 0, 8, 0.8)), 0.8) == pytest.approx(
        [1]
    )
    assert average_precision(truth, detections((0, 0, 0, 10, 0.9), (0, 0, 2, 10, 0.8)), 0.8) == pytest.approx(
        [0.5]
    )


def test_a_tiou_equal_to_the_threshold_matches():
    assert average_precision(ground_truth((0, 0, 0, 10)), detections((0, 0, 0, 5, 1)), 0.5) == pytest.approx(
        [1]
    )


def test_only_classes_of_the_ground_truth_are_scored_and_missing_predictions_count_zero():
    truth = ground_truth((0, 0, 0, 10), (0, 2, 0, 10))
    scores = detection_map(truth, detections((0, 0, 0, 10, 0.9), (0, 1, 0, 10, 0.9)), [0.5])
    assert scores.classes == ("jump", "throw")
    assert scores.num_segments.tolist() == [1, 1]
    assert scores.average_precision.tolist() == [[1.0, 0.0]]
    assert scores.mean_average_precision == pytest.approx([0.5])


def test_no_prediction_at_all_scores_zero():
    assert average_precision(ground_truth((0, 0, 0, 10)), detections()).tolist() == [0.0]


def test_predictions_elsewhere_are_false_positives():
    truth = ground_truth((0, 0, 0, 10))
    right = (0, 0, 0, 10, 0.5)
    for elsewhere in ((1, 0, 0, 10, 0.9), (0, 0, 10, 0, 0.9), (0, 0, 5, 5, 0.9)):
        assert average_precision(truth, detections(elsewhere, right)) == pytest.approx([0.5])
    unknown_video = detections((0, 0, 0, 10, 0.9), (1, 0, 0, 10, 0.5), videos=("other", "v0"))
    assert average_precision(truth, unknown_video) == pytest.approx([0.5])


def test_classes_and_videos_are_matched_by_name():
    truth = ground_truth((3, 2, 0, 10))
    found = detections((0, 0, 0, 10, 1), videos=("v3",), classes=("throw",))
    assert average_precision(truth, found) == pytest.approx([1.0])


def test_videos_restrict_ground_truth_classes_and_predictions():
    truth = ground_truth((0, 0, 0, 10), (1, 0, 0, 10), (2, 1, 0, 10))
    found = detections((1, 0, 50, 60, 0.9), (0, 0, 0, 10, 0.8))
    scores = detection_map(truth, found, [0.5], videos=["v0", "v3"])
    assert scores.classes == ("jump",)
    assert scores.average_precision.tolist() == [[1.0]]


def test_wrong_input_is_explained():
    truth = ground_truth((0, 0, 0, 10))
    with pytest.raises(ValueError, match="'v9'"):
        detection_map(truth, detections(), [0.5], videos=["v0", "v9"])
    with pytest.raises(ValueError, match="nothing to score"):
        detection_map(truth, detections(), [0.5], videos=["v1"])
    with pytest.raises(ValueError, match=r"video 'v1'.*'swim'.*jump, run, throw"):
        detection_map(truth, detections((1, 0, 0, 10, 1), classes=("swim",)), [0.5])
    for thresholds in ([], [0.0], [1.1], [float("nan")]):
        with pytest.raises(ValueError, match="tIoU thresholds"):
            detection_map(truth, detections(), thresholds)


def test_types_reject_inconsistent_columns():
    with pytest.raises(ValueError, match=r"'v1'.*end after its start"):
        ground_truth((1, 0, 10, 10))
    with pytest.raises(ValueError, match=r"'v1'.*score is nan"):
        detections((1, 0, 0, 10, float("nan")))
    with pytest.raises(ValueError, match=r"label indices must be 0\.\.2"):
        detections((1, 3, 0, 10, 1.0))
    with pytest.raises(ValueError, match="equally long"):
        Detections(VIDEOS, CLASSES, np.zeros(1, int), np.zeros(1, int), np.zeros(2), np.ones(1), np.ones(1))


# A coarse grid makes equal segments, equal tIoUs and overlaps exactly at a threshold common.
grid_segments = st.tuples(st.integers(0, 12), st.integers(1, 7)).map(lambda p: (p[0], p[0] + p[1]))
fine_segments = st.tuples(st.floats(0, 20), st.floats(0.1, 8)).map(lambda p: (p[0], p[0] + p[1]))
segments = st.one_of(grid_segments, fine_segments)
truth_rows = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), segments), min_size=1, max_size=30)
found_rows = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 2), segments, st.integers(0, 50)), max_size=80
)


@settings(max_examples=300, deadline=None)
@given(truth_rows, found_rows, st.booleans())
def test_equals_the_plain_loops(truth_rows, found_rows, restrict):
    truth = ground_truth(*((video, label, *segment) for video, label, segment in truth_rows))
    found = detections(
        *((video, label, *segment, score) for video, label, segment, score in found_rows),
        videos=("v2", "v0", "v1", "v3", "unknown"),
        classes=("throw", "jump", "run"),
    )
    videos = {VIDEOS[video] for video, _, _ in truth_rows[:5]} if restrict else None
    fast = detection_map(truth, found, TIOU_THRESHOLDS, videos=videos)
    plain = detection_map_reference(truth, found, TIOU_THRESHOLDS, videos=videos)
    assert fast.classes == plain.classes
    assert fast.num_segments.tolist() == plain.num_segments.tolist()
    np.testing.assert_allclose(fast.average_precision, plain.average_precision, rtol=0, atol=1e-9)


def test_equals_the_plain_loops_in_a_crowd():
    # Many predictions for each ground truth, many ground truths in reach: long chains of second choices.
    generator = np.random.default_rng(0)

    def crowd(size):
        start_s = generator.uniform(0, 30, size)
        zeros = np.zeros(size)
        return np.stack([zeros, zeros, start_s, start_s + generator.uniform(5, 9, size)], axis=1)

    truth = ground_truth(*crowd(60))
    found = detections(*np.column_stack([crowd(800), generator.random(800)]))
    fast = detection_map(truth, found, TIOU_THRESHOLDS)
    plain = detection_map_reference(truth, found, TIOU_THRESHOLDS)
    np.testing.assert_allclose(fast.average_precision, plain.average_precision, rtol=0, atol=1e-9)


def test_blocks_of_predictions_change_nothing(monkeypatch):
    generator = np.random.default_rng(1)
    truth = ground_truth(*((v, 0, 10 * i, 10 * i + 8) for v in range(3) for i in range(5)))
    start_s = generator.uniform(0, 50, 100)
    found = detections(*((i % 4, 0, s, s + 8, generator.random()) for i, s in enumerate(start_s)))
    whole = detection_map(truth, found, TIOU_THRESHOLDS)
    monkeypatch.setattr("ftcl.evaluation.detection._PREDICTIONS_PER_BLOCK", 7)
    blocks = detection_map(truth, found, TIOU_THRESHOLDS)
    assert (whole.average_precision == blocks.average_precision).all()
    assert whole.average_precision.max() > 0
