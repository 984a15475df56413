"""Mean average precision of temporal action detection, all predictions and all thresholds at once.

Legend: N predictions (in descending score), G ground-truth segments, C classes, K tIoU thresholds,
P pairs of a prediction and a ground truth of its own video and class.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftcl.evaluation.types import Detections, DetectionScores, Floats, GroundTruth, Ints

# Pairs are made for so many predictions at a time, which bounds the memory whatever the file holds.
_PREDICTIONS_PER_BLOCK = 1 << 16


class _Problem(NamedTuple):
    """What is left to score once names are resolved and videos are chosen.

    `label` (G,) and `prediction_label` (N,) index `classes`, which all occur in the ground truth; `video`
    (G,) and `prediction_video` (N,) are numbers that agree for the same video. Predictions are in descending
    score, equal scores in input order; `prediction` (N,) are their places in the input.
    """

    tiou_thresholds: Floats
    classes: tuple[str, ...]
    video: Ints
    label: Ints
    start_s: Floats
    end_s: Floats
    prediction: Ints
    prediction_video: Ints
    prediction_label: Ints
    prediction_start_s: Floats
    prediction_end_s: Floats


def detection_map(
    ground_truth: GroundTruth,
    detections: Detections,
    tiou_thresholds: ArrayLike,
    *,
    videos: Collection[str] | None = None,
) -> DetectionScores:
    """Interpolated average precision by class and tIoU threshold, as the ActivityNet evaluation computes it.

    For each class the predictions of all videos are taken in descending score (equal scores: input order).
    Each matches the ground truth of its video with the highest tIoU that no earlier prediction has matched,
    if that tIoU is at least the threshold (equal tIoU: the later ground truth), else it is a false positive:

        AP = 1/G_c Σ_{n matched} max_{m >= n} precision(m)

    A class without predictions has AP 0. A prediction in a video without ground truth of its class, or in an
    unknown video, or that does not end after its start, is a false positive. The classes scored are those
    that occur in the ground truth of the counted videos; predictions of other classes do not count.

    `tiou_thresholds` (K,) in (0, 1]; `videos` restricts ground truth and predictions to these names.
    Raises ValueError for a threshold out of range, a name in `videos` that the ground truth lacks, a
    predicted class that it does not know, or nothing to score.
    Source: Caba Heilbron et al., "ActivityNet", CVPR 2015; the challenge's published evaluation.
    """
    problem = _resolve(ground_truth, detections, tiou_thresholds, videos)
    matched_KN = _is_matched(_match(problem), len(problem.prediction))
    num_segments = np.bincount(problem.label, minlength=len(problem.classes))
    average_precision_KC = np.zeros((len(problem.tiou_thresholds), len(problem.classes)))
    for c in range(len(problem.classes)):
        average_precision_KC[:, c] = _average_precision(
            matched_KN[:, problem.prediction_label == c], num_segments[c]
        )
    return DetectionScores(problem.tiou_thresholds, problem.classes, average_precision_KC, num_segments)


def match_detections(ground_truth: GroundTruth, detections: Detections, tiou_thresholds: ArrayLike) -> Ints:
    """Which detection found each segment, (K, G): its place in `detections`, or -1 for a segment not found.

    The matching is that of `detection_map`, which raises the same: detections that found a segment are its
    true positives, all others its false positives.
    """
    problem = _resolve(ground_truth, detections, tiou_thresholds, None)
    return np.append(problem.prediction, -1)[_match(problem)]


def _resolve(
    ground_truth: GroundTruth,
    detections: Detections,
    tiou_thresholds: ArrayLike,
    videos: Collection[str] | None,
) -> _Problem:
    """Check the input, choose videos and classes, and sort the predictions: the part without arithmetic."""
    thresholds = np.atleast_1d(np.asarray(tiou_thresholds, dtype=np.float64))
    if thresholds.ndim != 1 or not thresholds.size or not ((thresholds > 0) & (thresholds <= 1)).all():
        raise ValueError(f"tIoU thresholds must be numbers above 0 and at most 1, got {thresholds.tolist()}")
    counted = np.ones(len(ground_truth.videos), dtype=bool)
    if videos is not None:
        unknown = sorted(set(videos) - set(ground_truth.videos))
        if unknown:
            raise ValueError(
                f"{len(unknown)} of the videos to count are not in the ground truth, first {unknown[0]!r}; "
                "correct the list or choose the subset that holds them"
            )
        chosen = set(videos)
        counted = np.array([name in chosen for name in ground_truth.videos], dtype=bool)
    segments = np.flatnonzero(counted[ground_truth.video])
    if not segments.size:
        raise ValueError("no ground-truth segment in the counted videos, so there is nothing to score")
    labels, label = np.unique(ground_truth.label[segments], return_inverse=True)

    scored = np.full(len(ground_truth.classes) + 1, -1)
    scored[labels] = np.arange(len(labels))
    prediction_label = scored[_same_names(detections.classes, ground_truth.classes)[detections.label]]
    _check_known(ground_truth.classes, detections)
    same_video = _same_names(detections.videos, ground_truth.videos)
    if videos is not None:
        keep_video = np.append(counted, False)[same_video]
        prediction_label = np.where(keep_video[detections.video], prediction_label, -1)
    kept = np.flatnonzero(prediction_label >= 0)
    kept = kept[np.argsort(-detections.score[kept], kind="stable")]
    return _Problem(
        tiou_thresholds=thresholds,
        classes=tuple(ground_truth.classes[index] for index in labels),
        video=ground_truth.video[segments],
        label=label.reshape(-1),
        start_s=ground_truth.start_s[segments],
        end_s=ground_truth.end_s[segments],
        prediction=kept,
        prediction_video=same_video[detections.video[kept]],
        prediction_label=prediction_label[kept],
        prediction_start_s=detections.start_s[kept],
        prediction_end_s=detections.end_s[kept],
    )


def _same_names(names: Sequence[str], known: Sequence[str]) -> Ints:
    """The place of each name in `known`; len(known) for a name that is not there."""
    index = {name: place for place, name in enumerate(known)}
    return np.array([index.get(name, len(known)) for name in names], dtype=np.intp)


def _check_known(classes: Sequence[str], detections: Detections) -> None:
    for index in np.unique(detections.label):
        name = detections.classes[index]
        if name not in classes:
            video = detections.videos[detections.video[np.flatnonzero(detections.label == index)[0]]]
            raise ValueError(
                f"video {video!r}: predicted label {name!r} is not a class of the ground truth; "
                f"its classes are {', '.join(classes)}"
            )


class _Candidates(NamedTuple):
    """Per prediction, the ground truths that some threshold lets it match, best first.

    `segment` (P,) lists them prediction after prediction; those of prediction n are the first
    `count[k, n]` from place `first[n]` at threshold k, because they are sorted by tIoU.
    """

    segment: Ints
    first: Ints
    count_KN: Ints


def _match(problem: _Problem) -> Ints:
    """The prediction that matches each ground truth, (K, G), in 0..N; N where none does.

    Taking turns by score is a stable matching in which every ground truth prefers the higher score, so
    deferred acceptance finds the same pairs: every prediction asks for its best candidate, the ground truth
    keeps the highest score, and those turned away ask for their next one. All videos, classes and
    thresholds go through the same few rounds.
    """
    candidates = _candidates(problem)
    num_thresholds, num_predictions = candidates.count_KN.shape
    num_segments = len(problem.video)
    asked = np.tile(candidates.first, num_thresholds)
    end = asked + candidates.count_KN.reshape(-1)
    holder = np.full(num_thresholds * num_segments, num_predictions)
    asking = np.flatnonzero(asked < end)
    while asking.size:
        threshold, prediction = np.divmod(asking, num_predictions)
        wanted = threshold * num_segments + candidates.segment[asked[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, prediction)
        accepted = holder[wanted] == prediction
        replaced = accepted & (before < num_predictions)
        refused = np.concatenate(
            [asking[~accepted], threshold[replaced] * num_predictions + before[replaced]]
        )
        asked[refused] += 1
        asking = refused[asked[refused] < end[refused]]
    return holder.reshape(num_thresholds, num_segments)


def _is_matched(match_KG: Ints, num_predictions: int) -> NDArray[np.bool_]:
    """Which predictions match a ground truth, (K, N)."""
    matched_KN = np.zeros((len(match_KG), num_predictions + 1), dtype=bool)
    matched_KN[np.arange(len(match_KG))[:, None], match_KG] = True
    return matched_KN[:, :num_predictions]


def _candidates(problem: _Problem) -> _Candidates:
    num_classes = len(problem.classes)
    key = problem.video * num_classes + problem.label
    # Reversed, so that the stable sort by tIoU below puts the later of two equal ground truths first.
    by_key = np.argsort(key, kind="stable")[::-1]
    prediction_key = problem.prediction_video * num_classes + problem.prediction_label
    sorted_key = -key[by_key]
    group_start = np.searchsorted(sorted_key, -prediction_key, side="left")
    group_size = np.searchsorted(sorted_key, -prediction_key, side="right") - group_start

    num_predictions = len(prediction_key)
    segment_parts, prediction_parts, tiou_parts = [], [], []
    for low in range(0, num_predictions, _PREDICTIONS_PER_BLOCK):
        block = np.arange(low, min(low + _PREDICTIONS_PER_BLOCK, num_predictions))
        size = group_size[block]
        prediction = np.repeat(block, size)
        place_in_group = np.arange(len(prediction)) - np.repeat(np.cumsum(size) - size, size)
        segment = by_key[group_start[prediction] + place_in_group]
        tiou = _tiou(
            problem.prediction_start_s[prediction],
            problem.prediction_end_s[prediction],
            problem.start_s[segment],
            problem.end_s[segment],
        )
        possible = tiou >= problem.tiou_thresholds.min()
        segment_parts.append(segment[possible])
        prediction_parts.append(prediction[possible])
        tiou_parts.append(tiou[possible])
    none = np.zeros(0, dtype=np.intp)
    prediction = np.concatenate([*prediction_parts, none])
    tiou = np.concatenate([*tiou_parts, np.zeros(0)])
    best_first = np.lexsort((-tiou, prediction))
    count_KN = np.stack(
        [
            np.bincount(prediction[tiou >= threshold], minlength=num_predictions)
            for threshold in problem.tiou_thresholds
        ]
    )
    size = np.bincount(prediction, minlength=num_predictions)
    return _Candidates(np.concatenate([*segment_parts, none])[best_first], np.cumsum(size) - size, count_KN)


def _tiou(start_s: Floats, end_s: Floats, other_start_s: Floats, other_end_s: Floats) -> Floats:
    # This order of operations is the published evaluation's: at a tIoU like 0.5 the last bit decides.
    intersection = np.maximum(np.minimum(end_s, other_end_s) - np.maximum(start_s, other_start_s), 0.0)
    union = (other_end_s - other_start_s) + (end_s - start_s) - intersection
    # A prediction that ends before it starts may have union 0; its NaN is below every threshold.
    with np.errstate(invalid="ignore"):
        return intersection / union


def _average_precision(matched_KN: NDArray[np.bool_], num_segments: int) -> Floats:
    precision = np.cumsum(matched_KN, axis=1) / np.arange(1, matched_KN.shape[1] + 1)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.where(matched_KN, envelope, 0.0).sum(axis=1) / num_segments
