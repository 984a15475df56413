"""Detection mAP as plain loops: slow, readable, and what the fast version is tested against."""

from collections.abc import Collection

import numpy as np
from numpy.typing import ArrayLike

from ftcl.evaluation.types import Detections, DetectionScores, Floats, GroundTruth, Ints


def detection_map_reference(
    ground_truth: GroundTruth,
    detections: Detections,
    tiou_thresholds: ArrayLike,
    *,
    videos: Collection[str] | None = None,
) -> DetectionScores:
    """The same values as `ftcl.evaluation.detection_map`, one prediction and one threshold after the other.

    It trusts its input; names and thresholds are checked by the fast version only.
    """
    thresholds = np.atleast_1d(np.asarray(tiou_thresholds, dtype=np.float64))
    counted = set(ground_truth.videos if videos is None else videos)
    segments_by_class: dict[str, dict[str, list[int]]] = {}
    for g in range(len(ground_truth.video)):
        video = ground_truth.videos[ground_truth.video[g]]
        if video in counted:
            by_video = segments_by_class.setdefault(ground_truth.classes[ground_truth.label[g]], {})
            by_video.setdefault(video, []).append(g)
    classes = tuple(name for name in ground_truth.classes if name in segments_by_class)

    average_precision = np.zeros((len(thresholds), len(classes)))
    num_segments = np.zeros(len(classes), dtype=np.intp)
    for c, name in enumerate(classes):
        predictions = [
            n
            for n in np.argsort(-detections.score, kind="stable")
            if detections.classes[detections.label[n]] == name
            and (videos is None or detections.videos[detections.video[n]] in counted)
        ]
        num_segments[c] = sum(len(segments) for segments in segments_by_class[name].values())
        matched = _matched(ground_truth, detections, predictions, segments_by_class[name], thresholds)
        for k in range(len(thresholds)):
            average_precision[k, c] = _average_precision(matched[k], num_segments[c])
    return DetectionScores(thresholds, classes, average_precision, num_segments)


def _matched(
    ground_truth: GroundTruth,
    detections: Detections,
    predictions: list[int],
    segments_by_video: dict[str, list[int]],
    thresholds: Floats,
) -> list[list[bool]]:
    taken: list[set[int]] = [set() for _ in thresholds]
    matched: list[list[bool]] = [[] for _ in thresholds]
    for n in predictions:
        segments = np.array(segments_by_video.get(detections.videos[detections.video[n]], []), dtype=np.intp)
        tiou = _tiou(ground_truth, segments, detections.start_s[n], detections.end_s[n])
        best_first = np.argsort(tiou, kind="stable")[::-1]
        for k, threshold in enumerate(thresholds):
            match = None
            for place in best_first:
                if tiou[place] < threshold:
                    break
                if segments[place] not in taken[k]:
                    match = segments[place]
                    taken[k].add(match)
                    break
            matched[k].append(match is not None)
    return matched


def _tiou(ground_truth: GroundTruth, segments: Ints, start_s: float, end_s: float) -> Floats:
    if end_s <= start_s:
        return np.zeros(len(segments))
    other_start_s, other_end_s = ground_truth.start_s[segments], ground_truth.end_s[segments]
    intersection = np.clip(np.minimum(end_s, other_end_s) - np.maximum(start_s, other_start_s), 0.0, None)
    return intersection / ((other_end_s - other_start_s) + (end_s - start_s) - intersection)


def _average_precision(matched: list[bool], num_segments: int) -> float:
    """Area under the precision envelope: each step of recall times the best precision from there on."""
    precision, recall, true_positives = [], [], 0
    for count, is_match in enumerate(matched, start=1):
        true_positives += is_match
        precision.append(true_positives / count)
        recall.append(true_positives / num_segments)
    area, recall_before = 0.0, 0.0
    for n in range(len(matched)):
        area += (recall[n] - recall_before) * max(precision[n:]) if recall[n] != recall_before else 0.0
        recall_before = recall[n]
    return area
