"""The names and percent values under which detection scores are reported."""

import numpy as np

from ftcl.evaluation.types import DetectionScores, Floats

# The values of np.arange are part of the protocol: 0.1 + 2 * 0.1 is not the float 0.3.
TIOU_THRESHOLDS: Floats = np.arange(0.1, 1.0, 0.1)
TIOU_THRESHOLDS.setflags(write=False)

# (first, last, step) of the averages that papers report; ACM-Net's script prints 0.1:0.9, its paper 0.1:0.7.
_AVERAGES = ((0.1, 0.5, 0.1), (0.3, 0.7, 0.1), (0.1, 0.7, 0.1), (0.1, 0.9, 0.1), (0.5, 0.95, 0.05))


def metrics(scores: DetectionScores) -> dict[str, float]:
    """Mean average precision in percent (0..100): "mAP@0.5" for each threshold, then the known averages.

    "mAP@0.1:0.7" is the mean over the thresholds 0.1, 0.2 … 0.7, and appears when all of them were scored;
    likewise 0.1:0.5, 0.3:0.7, 0.1:0.9 (steps of 0.1) and 0.5:0.95 (steps of 0.05).
    """
    percent_by_threshold = {
        _name(threshold): 100.0 * float(value)
        for threshold, value in zip(scores.tiou_thresholds, scores.mean_average_precision, strict=True)
    }
    named = {f"mAP@{name}": value for name, value in percent_by_threshold.items()}
    for first, last, step in _AVERAGES:
        members = [_name(threshold) for threshold in np.arange(first, last + step / 2, step)]
        if all(name in percent_by_threshold for name in members):
            named[f"mAP@{first:g}:{last:g}"] = float(
                np.mean([percent_by_threshold[name] for name in members])
            )
    return named


def metric_thresholds(metric: str) -> Floats:
    """The tIoU thresholds that "mAP@0.5" or "mAP@0.1:0.7" is computed from; ValueError for other names."""
    twentieths = np.arange(0.5, 1.0, 0.05)
    single = (*twentieths, *TIOU_THRESHOLDS)  # the tenths in the floats of TIOU_THRESHOLDS
    by_name = {f"mAP@{_name(threshold)}": np.array([threshold]) for threshold in single}
    for first, last, step in _AVERAGES:
        scored = TIOU_THRESHOLDS if step == 0.1 else twentieths
        inside = (scored > first - step / 2) & (scored < last + step / 2)
        by_name[f"mAP@{first:g}:{last:g}"] = scored[inside]
    if metric not in by_name:
        raise ValueError(f"{metric} is no mean average precision; known are {', '.join(by_name)}")
    return by_name[metric]


def _name(threshold: float) -> str:
    return f"{threshold:.6g}"
