"""Errors of single trials, worked out by hand and against the mean average precision."""

import numpy as np
import pytest

from analysis.localization.detad import KINDS, analyse, buckets
from ftcl.evaluation import TIOU_THRESHOLDS, Detections, GroundTruth, detection_map

VIDEOS = ("v0", "v1")
CLASSES = ("A", "B")
A, B = range(2)
HALF = np.array([0.5])

# (video, class, start, end): three segments of A, two of B.
SEGMENTS = ((0, A, 0, 10), (0, A, 20, 30), (0, B, 40, 50), (1, B, 0, 10), (1, A, 80, 90))
# (video, class, start, end, score) and what it is at tIoU 0.5.
DETECTIONS = (
    ((0, A, 0, 10, 0.9), "true positive"),
    ((0, A, 0, 8, 0.8), "double detection"),  # tIoU 0.8 with the segment that the one above has found
    ((0, A, 20, 24, 0.7), "localisation"),  # tIoU 0.4
    ((0, A, 40, 50, 0.6), "wrong label"),  # a segment of B
    ((0, A, 20, 28, 0.5), "true positive"),  # tIoU 0.8
    ((1, B, 0, 3, 0.9), "localisation"),  # tIoU 0.3
    ((0, B, 0, 3, 0.8), "confusion"),  # tIoU 0.3 with a segment of A
    ((1, B, 60, 70, 0.7), "background"),
    ((0, B, 40, 48, 0.6), "true positive"),  # tIoU 0.8
)


def ground_truth(rows=SEGMENTS, classes=CLASSES, videos=VIDEOS):
    video, label, start_s, end_s = np.array(rows, dtype=float).T
    duration_s = np.full(len(videos), 100.0)
    return GroundTruth(videos, classes, duration_s, video.astype(int), label.astype(int), start_s, end_s)


def detections(rows=None, classes=CLASSES, videos=VIDEOS):
    rows = [row for row, _ in DETECTIONS] if rows is None else rows
    video, label, *numbers = np.array(rows, dtype=float).reshape(-1, 5).T
    return Detections(videos, classes, video.astype(int), label.astype(int), *numbers)


def test_mean_average_precision_and_what_is_missed():
    found = analyse(ground_truth(), detections(), HALF)
    # A finds 2 of 3, at precision 1 and 2/5; B finds 1 of 2, at 1/4.
    assert found.mean_ap == pytest.approx(100 * ((1 + 2 / 5) / 3 + (1 / 4) / 2) / 2)
    assert found.missed == pytest.approx(100 * 2 / 5)


def test_shares_of_the_surest_detections():
    shares = analyse(ground_truth(), detections(), HALF).shares
    count = shares.pivot(index="band", columns="kind", values="count")[list(KINDS)]
    # The surest 3 of A and 2 of B, then the next ones.
    assert count.loc[1].to_dict() == {
        "true positive": 1,
        "double detection": 1,
        "wrong label": 0,
        "localisation": 2,
        "confusion": 1,
        "background": 0,
    }
    assert count.loc[2].to_dict() == {
        "true positive": 2,
        "double detection": 0,
        "wrong label": 1,
        "localisation": 0,
        "confusion": 0,
        "background": 1,
    }
    assert count.loc[3:].to_numpy().sum() == 0


def test_what_each_kind_of_error_costs():
    gains = analyse(ground_truth(), detections(), HALF).gains.set_index("kind")["gain"]
    a, b = (1 + 2 / 5) / 3, (1 / 4) / 2
    without_one_of_a, without_one_of_b = (1 + 2 / 4) / 3, (1 / 3) / 2
    assert gains.to_dict() == pytest.approx(
        {
            "double detection": 100 * (without_one_of_a - a) / 2,
            "wrong label": 100 * (without_one_of_a - a) / 2,
            "localisation": 100 * (without_one_of_a - a + without_one_of_b - b) / 2,
            "confusion": 100 * (without_one_of_b - b) / 2,
            "background": 100 * (without_one_of_b - b) / 2,
        }
    )


def test_normalised_precision_by_hand():
    # On average a class has 5/2 segments; a true positive of A counts (5/2)/3 and one of B (5/2)/2.
    a = (1 + (2 * 2.5 / 3) / (2 * 2.5 / 3 + 3)) / 3
    b = ((2.5 / 2) / (2.5 / 2 + 3)) / 2
    assert analyse(ground_truth(), detections(), HALF).map_n == pytest.approx(100 * (a + b) / 2)


def test_sensitivity_to_the_number_of_instances_by_hand():
    found = analyse(ground_truth(), detections(), HALF).buckets
    rows = found[found["characteristic"] == "instances"].set_index("bucket")
    # Two segments of A share a video: both are found, the detections in between are false all the same.
    assert rows.loc["2–4", "segments"] == 2
    assert rows.loc["2–4", "map_n"] == pytest.approx(100 * (1 + 2.5 / (2.5 + 3)) / 2)
    assert rows.loc["2–4", "missed"] == 0
    # The three others: A's is not found, of B's one; A's true positives elsewhere count neither way.
    assert rows.loc["1", "segments"] == 3
    assert rows.loc["1", "map_n"] == pytest.approx(100 * (0 + (1.25 / (1.25 + 3)) / 2) / 2)
    assert rows.loc["1", "missed"] == pytest.approx(100 * 2 / 3)
    assert list(rows.index) == ["1", "2–4"]


def test_lengths_are_cut_at_their_quartiles():
    segments = [(0, A, 10 * i, 10 * i + length) for i, length in enumerate((1, 2, 3, 4, 5, 6, 7, 9))]
    lengths = [
        (name, inside.sum()) for kind, name, inside in buckets(ground_truth(segments)) if kind != "instances"
    ]
    assert lengths == [("≤ 2.8", 2), ("2.8–4.5", 2), ("4.5–6.2", 2), ("> 6.2", 2)]


def test_equal_overlaps_go_to_the_own_class_and_no_overlap_is_background():
    segments = ((0, A, 0, 10), (0, B, 0, 10))
    rows = ((0, A, 0, 10, 0.9), (0, A, 0, 10, 0.8), (0, B, 50, 50, 0.7), (1, B, 0, 10, 0.6))
    shares = analyse(ground_truth(segments), detections(rows), HALF).shares
    counted = shares.groupby("kind")["count"].sum()
    assert counted[counted > 0].to_dict() == {"true positive": 1, "double detection": 1, "background": 2}


def test_a_trial_without_detections_finds_nothing():
    found = analyse(ground_truth(), detections([]), HALF)
    assert (found.mean_ap, found.map_n, found.missed) == (0, 0, 100)
    assert (found.gains["gain"] == 0).all()


@pytest.mark.parametrize("seed", range(6))
def test_gains_are_those_of_taking_the_errors_out(seed):
    rng = np.random.default_rng(seed)
    classes, videos = tuple("ABCDE"), tuple(map(str, range(9)))

    def rows(count):
        start_s = rng.integers(0, 40, count)
        return np.stack(
            [
                rng.integers(0, 9, count),
                rng.integers(0, 5 - seed % 2, count),
                start_s,
                start_s + rng.integers(1, 9, count),
            ],
            1,
        )

    truth = ground_truth(rows(50), classes, videos)
    every = np.column_stack([rows(600), rng.integers(0, 50, 600) / 50])
    found = detections(every, classes, videos)
    thresholds = TIOU_THRESHOLDS[:7]
    whole = analyse(truth, found, thresholds)
    scores = detection_map(truth, found, thresholds)
    assert whole.mean_ap == pytest.approx(100 * scores.average_precision.mean(), abs=1e-9)
    # At one threshold, errors of a kind can be taken out of the detections themselves.
    single = analyse(truth, found, HALF).gains.set_index("kind")["gain"]
    base = detection_map(truth, found, HALF).average_precision.mean()
    for kind in KINDS[1:]:
        kept = detections(every[kinds_in_loops(truth, found) != kind], classes, videos)
        gained = 100 * (detection_map(truth, kept, HALF).average_precision.mean() - base)
        assert single[kind] == pytest.approx(gained, abs=1e-9), kind


def kinds_in_loops(truth, found):
    """Judge one detection after the other at tIoU 0.5, as the head of the module says."""
    kinds = np.full(len(found), "", dtype=object)
    taken = set()
    for n in np.argsort(-found.score, kind="stable"):
        overlaps = []
        for g in range(len(truth.video)):
            if truth.video[g] != found.video[n]:
                continue
            common = min(found.end_s[n], truth.end_s[g]) - max(found.start_s[n], truth.start_s[g])
            length = found.end_s[n] - found.start_s[n] + truth.end_s[g] - truth.start_s[g]
            tiou = max(common, 0) / (length - max(common, 0))
            overlaps.append((tiou, truth.label[g] == found.label[n], g))
        own = [(tiou, g) for tiou, is_own, g in overlaps if is_own and tiou >= 0.5 and g not in taken]
        best, is_own, _ = max(overlaps, default=(0, False, 0))
        if own:
            kinds[n] = "true positive"
            taken.add(max(own)[1])
        elif best < 0.1:
            kinds[n] = "background"
        elif best >= 0.5:
            kinds[n] = "double detection" if is_own else "wrong label"
        else:
            kinds[n] = "localisation" if is_own else "confusion"
    return kinds
