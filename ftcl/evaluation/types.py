"""What an evaluation takes and returns: ground truth, detections, scores.

Legend: V videos, C classes, G ground-truth segments, N detections, K tIoU thresholds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]


class AnnotatedSegment(Protocol):
    """An action: when it happens and what it is."""

    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...
    @property
    def label(self) -> str: ...


class AnnotatedVideo(Protocol):
    """A video with the actions in it."""

    @property
    def name(self) -> str: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def segments(self) -> Sequence[AnnotatedSegment]: ...


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The annotated segments of one subset, as parallel arrays.

    `video` and `label` (G,) index `videos` and `classes`; `start_s` and `end_s` (G,) are seconds. A video may
    have no segment and a class may not occur. `duration_s` (V,) is NaN where it is unknown.
    Raises ValueError for a segment that starts below 0 or does not end after its start.
    """

    videos: tuple[str, ...]
    classes: tuple[str, ...]
    duration_s: Floats
    video: Ints
    label: Ints
    start_s: Floats
    end_s: Floats

    def __post_init__(self) -> None:
        _check_columns(self, ("start_s", "end_s"))
        if len(self.duration_s) != len(self.videos):
            raise ValueError(
                f"{len(self.videos)} videos but {len(self.duration_s)} durations; give one for each"
            )
        wrong = np.flatnonzero((self.start_s < 0) | (self.end_s <= self.start_s))
        if wrong.size:
            i = wrong[0]
            raise ValueError(
                f"video {self.videos[self.video[i]]!r}: segment [{self.start_s[i]}, {self.end_s[i]}] must "
                "start at 0 or later and end after its start; correct the annotation"
            )

    @classmethod
    def from_videos(cls, videos: Iterable[AnnotatedVideo], classes: Sequence[str]) -> "GroundTruth":
        """The ground truth of `videos`, labels numbered by their place in `classes`."""
        videos = list(videos)
        class_index = {name: index for index, name in enumerate(classes)}
        rows = [(index, segment) for index, video in enumerate(videos) for segment in video.segments]
        for index, segment in rows:
            if segment.label not in class_index:
                raise ValueError(
                    f"video {videos[index].name!r}: unknown label {segment.label!r}; add it to the classes "
                    f"or correct the annotation (known: {', '.join(classes)})"
                )
        return cls(
            videos=tuple(video.name for video in videos),
            classes=tuple(classes),
            duration_s=np.array([video.duration_s for video in videos], dtype=np.float64),
            video=np.array([index for index, _ in rows], dtype=np.intp),
            label=np.array([class_index[segment.label] for _, segment in rows], dtype=np.intp),
            start_s=np.array([segment.start_s for _, segment in rows], dtype=np.float64),
            end_s=np.array([segment.end_s for _, segment in rows], dtype=np.float64),
        )


class VideoDetections(NamedTuple):
    """The detections of one video: parallel arrays of class index, start and end in seconds, and score."""

    label: Ints
    start_s: Floats
    end_s: Floats
    score: Floats


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of many videos, as parallel arrays in an order that breaks ties of score.

    `video` and `label` (N,) index `videos` and `classes`; `start_s` and `end_s` (N,) are seconds; a higher
    `score` (N,) is a surer detection. Raises ValueError for indices out of range and for numbers that are not
    finite.
    """

    videos: tuple[str, ...]
    classes: tuple[str, ...]
    video: Ints
    label: Ints
    start_s: Floats
    end_s: Floats
    score: Floats

    def __post_init__(self) -> None:
        _check_columns(self, ("start_s", "end_s", "score"))

    def __len__(self) -> int:
        return len(self.score)

    @classmethod
    def from_videos(
        cls, videos: Sequence[str], classes: Sequence[str], per_video: Sequence[VideoDetections]
    ) -> "Detections":
        """Join the detections of single videos, given in the order of `videos`."""
        if len(videos) != len(per_video):
            raise ValueError(
                f"{len(videos)} videos but {len(per_video)} lists of detections; give one for each"
            )
        counts = [len(detections.score) for detections in per_video]
        empty = VideoDetections(np.zeros(0, np.intp), np.zeros(0), np.zeros(0), np.zeros(0))
        columns = [np.concatenate(column) for column in zip(*per_video, empty, strict=True)]
        return cls(tuple(videos), tuple(classes), np.repeat(np.arange(len(videos)), counts), *columns)


@dataclass(frozen=True, eq=False)
class DetectionScores:
    """Average precision by threshold and class; all values in 0..1.

    `average_precision` (K, C) has one column for each of `classes`: those that occur in the ground truth.
    `num_segments` (C,) counts their ground-truth segments.
    """

    tiou_thresholds: Floats
    classes: tuple[str, ...]
    average_precision: Floats
    num_segments: Ints

    @property
    def mean_average_precision(self) -> Floats:
        """Mean over the classes, (K,)."""
        return self.average_precision.mean(axis=1)


def _check_columns(table: "GroundTruth | Detections", numbers: tuple[str, ...]) -> None:
    lengths = {name: len(getattr(table, name)) for name in ("video", "label", *numbers)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns must be equally long, got {lengths}")
    for name, names in (("video", table.videos), ("label", table.classes)):
        column = getattr(table, name)
        if len(column) and not (column.min() >= 0 and column.max() < len(names)):
            raise ValueError(
                f"{name} indices must be 0..{len(names) - 1}, got {column.min()}..{column.max()}"
            )
    for name in numbers:
        finite = np.isfinite(getattr(table, name))
        if not finite.all():
            i = np.flatnonzero(~finite)[0]
            raise ValueError(
                f"video {table.videos[table.video[i]]!r}: {name} is {getattr(table, name)[i]}, "
                "it must be finite"
            )
