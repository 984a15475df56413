"""`python -m ftcl.evaluation`: detection mAP of a predictions file."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from ftcl.evaluation.activitynet import read_detections, read_ground_truth
from ftcl.evaluation.detection import detection_map
from ftcl.evaluation.metrics import metrics
from ftcl.evaluation.types import Detections, DetectionScores, Floats, GroundTruth

_EPILOG = """\
files (ActivityNet formats, times in seconds):
  ground truth  {"database": {"video_1": {"subset": "test", "annotations":
                  [{"segment": [1.5, 4.0], "label": "HighJump"}]}}}
  predictions   {"results": {"video_1": [{"label": "HighJump", "segment": [1.2, 4.1], "score": 0.9}]}}

A predicted segment is right at a tIoU threshold if its temporal intersection over union with a
ground-truth segment of its class, in the same video, reaches the threshold; each ground truth counts
once, for the highest score. Predictions in videos that the subset does not hold are wrong ones, unless
--videos leaves them out. Only classes that occur in the counted videos are averaged.

exit codes: 0 done, 2 wrong usage or input
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (--help explains the usage)\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _Parser(
        prog="python -m ftcl.evaluation",
        description="Mean average precision (mAP) of temporal action detections.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("ground_truth", type=Path, metavar="GROUND_TRUTH.json", help="the annotations")
    parser.add_argument("predictions", type=Path, metavar="PREDICTIONS.json", help="the detections to score")
    parser.add_argument("--subset", default="test", help="the subset to score (default: %(default)s)")
    parser.add_argument(
        "--tiou",
        type=_thresholds,
        default="0.1:0.9:0.1",
        metavar="FIRST:LAST:STEP",
        help="tIoU thresholds, LAST included, or a comma list like 0.3,0.5 (default: %(default)s)",
    )
    parser.add_argument(
        "--videos", type=Path, metavar="FILE", help="count only the videos named in FILE, one name a line"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, with each class, instead of a table")
    options = parser.parse_args(arguments)
    try:
        ground_truth = read_ground_truth(options.ground_truth, options.subset)
        detections = read_detections(options.predictions, ground_truth.classes)
        videos = None if options.videos is None else _names(options.videos)
        scores = detection_map(ground_truth, detections, options.tiou, videos=videos)
    except ValueError as error:
        print(f"{parser.prog}: error: {error}", file=sys.stderr)
        return 2
    if videos is None:
        _note_other_videos(ground_truth, detections)
    if options.json:
        print(json.dumps(_as_json(scores), indent=2))
    else:
        num_videos = len(ground_truth.videos if videos is None else set(videos))
        print(
            f"subset {options.subset}: {num_videos} videos, {len(scores.classes)} classes, "
            f"{scores.num_segments.sum()} segments, {len(detections)} predictions\n"
        )
        print(_as_table(metrics(scores)))
    return 0


def _thresholds(text: str) -> Floats:
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            if not (0 < first <= last <= 1 and step > 0):
                raise ValueError
            return np.minimum(np.arange(first, last + step / 2, step), 1.0)
        thresholds = np.array([float(part) for part in text.split(",")])
        if not ((thresholds > 0) & (thresholds <= 1)).all():
            raise ValueError
        return thresholds
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is neither FIRST:LAST:STEP nor a comma list of numbers above 0 and at most 1"
        ) from None


def _names(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read as a list of video names ({error})") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise ValueError(f"{path}: names no video; write one name a line")
    return names


def _note_other_videos(ground_truth: GroundTruth, detections: Detections) -> None:
    held = set(ground_truth.videos)
    other = np.array([name not in held for name in detections.videos], dtype=bool)
    count = np.count_nonzero(other[detections.video])
    if count:
        print(
            f"note: {count} predictions are in videos that the subset does not hold; they count as wrong",
            file=sys.stderr,
        )


def _as_json(scores: DetectionScores) -> dict[str, object]:
    return {
        "metrics": metrics(scores),
        "tiou_thresholds": scores.tiou_thresholds.tolist(),
        "average_precision": {
            name: (100.0 * column).tolist()
            for name, column in zip(scores.classes, scores.average_precision.T, strict=True)
        },
        "num_segments": dict(zip(scores.classes, scores.num_segments.tolist(), strict=True)),
    }


def _as_table(values: dict[str, float]) -> str:
    width = max(len(name) for name in values)
    lines = [f"{'metric':<{width}}  percent"]
    lines += [f"{name:<{width}}  {value:7.2f}" for name, value in values.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
