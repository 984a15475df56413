"""Detections that saw no feature: what a mean average precision is worth by chance, and by labels alone.

Both slide windows over every video and score them at random; neither uses a ground-truth time. They differ in
the label only: drawn at random, or the video's true ones. A trained network should beat both, the second
one by what it knows about *when*.
"""

from collections.abc import Collection, Sequence

import numpy as np

from ftcl.evaluation.types import Detections, Floats, VideoDetections


def random_windows(
    videos: Sequence[str],
    durations_s: Sequence[float],
    classes: Sequence[str],
    *,
    window_lengths_s: Sequence[float],
    generator: np.random.Generator,
) -> Detections:
    """Every sliding window of every video, with one class drawn uniformly for the video, and random scores.

    Windows of each of `window_lengths_s` start at 0 and move by half their length while they fit; a video
    that is shorter than a length gets one window of its whole duration. Scores are uniform in [0, 1).
    Raises ValueError without a positive window length, or for lists that are not equally long.
    """
    labels = [(int(label),) for label in generator.integers(len(classes), size=len(videos))]
    return oracle_label_windows(
        videos, durations_s, labels, classes, window_lengths_s=window_lengths_s, generator=generator
    )


def oracle_label_windows(
    videos: Sequence[str],
    durations_s: Sequence[float],
    labels: Sequence[Collection[int]],
    classes: Sequence[str],
    *,
    window_lengths_s: Sequence[float],
    generator: np.random.Generator,
) -> Detections:
    """Every sliding window of every video, once for each true class of the video, with random scores.

    `labels` are the class indices of each video; windows, scores and errors are those of `random_windows`.
    """
    if not window_lengths_s or min(window_lengths_s) <= 0:
        raise ValueError(f"give at least one window length, all positive, got {list(window_lengths_s)}")
    if not len(videos) == len(durations_s) == len(labels):
        raise ValueError(
            f"{len(videos)} videos, {len(durations_s)} durations and {len(labels)} label sets; "
            "give one for each"
        )
    per_video = []
    for duration_s, video_labels in zip(durations_s, labels, strict=True):
        start_s, end_s = _sliding_windows(duration_s, window_lengths_s)
        num_classes = len(video_labels)
        per_video.append(
            VideoDetections(
                label=np.repeat(np.array(sorted(video_labels), dtype=np.intp), len(start_s)),
                start_s=np.tile(start_s, num_classes),
                end_s=np.tile(end_s, num_classes),
                score=generator.random(num_classes * len(start_s)),
            )
        )
    return Detections.from_videos(videos, classes, per_video)


def _sliding_windows(duration_s: float, window_lengths_s: Sequence[float]) -> tuple[Floats, Floats]:
    starts, ends = [], []
    for length_s in window_lengths_s:
        fitting_s = min(length_s, duration_s)
        num_windows = int((duration_s - fitting_s) / (length_s / 2)) + 1
        start_s = np.arange(num_windows) * (length_s / 2)
        starts.append(start_s)
        ends.append(start_s + fitting_s)
    return np.concatenate(starts), np.concatenate(ends)
