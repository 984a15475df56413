from dataclasses import dataclass

import numpy as np
import pytest

from ftcl.evaluation import Detections, GroundTruth, VideoDetections


@dataclass(frozen=True)
class Segment:
    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Video:
    name: str
    duration_s: float
    segments: tuple[Segment, ...]


def test_ground_truth_from_videos():
    videos = [
        Video("a", 9.0, ()),
        Video("b", 20.0, (Segment(1.0, 2.0, "walk"), Segment(3.0, 5.0, "run"))),
    ]
    truth = GroundTruth.from_videos(videos, ("run", "walk"))
    assert truth.videos == ("a", "b")
    assert truth.duration_s.tolist() == [9, 20]
    assert truth.video.tolist() == [1, 1]
    assert truth.label.tolist() == [1, 0]
    assert truth.start_s.tolist() == [1, 3]
    assert truth.end_s.tolist() == [2, 5]
    with pytest.raises(ValueError, match=r"'b'.*'walk'"):
        GroundTruth.from_videos(videos, ("run",))


def test_detections_from_videos():
    def found(*labels):
        numbers = np.array(labels, dtype=float)
        return VideoDetections(np.array(labels, dtype=np.intp), numbers, numbers + 1, numbers / 10)

    joined = Detections.from_videos(["a", "b", "c"], ["x", "y", "z"], [found(2, 1), found(), found(0)])
    assert joined.videos == ("a", "b", "c")
    assert joined.video.tolist() == [0, 0, 2]
    assert joined.label.tolist() == [2, 1, 0]
    assert joined.end_s.tolist() == [3, 2, 1]
    assert joined.score.tolist() == [0.2, 0.1, 0]
    assert len(Detections.from_videos([], [], [])) == 0
    with pytest.raises(ValueError, match="1 videos but 0"):
        Detections.from_videos(["a"], ["x"], [])
