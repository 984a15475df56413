"""Detection mAP: the vectorised evaluation beside the plain loops, on the same predictions, in the same run.

    python -m benchmarks.evaluation.run GROUND_TRUTH.json

GROUND_TRUTH.json is any annotation file in the ActivityNet format, for example THUMOS14's. Predictions are
made from it: jittered copies of its segments, some with another class, with random scores. No speed is
printed unless both evaluations agree to 1e-9.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ftcl.evaluation import (
    TIOU_THRESHOLDS,
    Detections,
    DetectionScores,
    GroundTruth,
    detection_map,
    detection_map_reference,
    metrics,
    read_ground_truth,
)

MAX_DIFFERENCE = 1e-9


def main() -> int:
    """Run the comparison; returns 0, or 1 if the results differ."""
    parser = argparse.ArgumentParser(description="Time detection mAP against plain loops.")
    parser.add_argument("ground_truth", type=Path, metavar="GROUND_TRUTH.json")
    parser.add_argument("--subset", default="test", help="default: %(default)s")
    parser.add_argument("--predictions", type=int, default=25_000, help="default: %(default)s")
    options = parser.parse_args()
    truth = read_ground_truth(options.ground_truth, options.subset)
    found = make_predictions(truth, options.predictions, np.random.default_rng(0))

    first_s, scores = timed(lambda: detection_map(truth, found, TIOU_THRESHOLDS))
    plain_s, plain_scores = timed(lambda: detection_map_reference(truth, found, TIOU_THRESHOLDS))
    difference = np.abs(scores.average_precision - plain_scores.average_precision).max()
    if scores.classes != plain_scores.classes or not difference <= MAX_DIFFERENCE:
        print(f"the results differ by {difference:.1e}: no speed is reported", file=sys.stderr)
        return 1
    fast_times = [timed(lambda: detection_map(truth, found, TIOU_THRESHOLDS))[0] for _ in range(20)]
    plain_times = [plain_s]
    plain_times += [
        timed(lambda: detection_map_reference(truth, found, TIOU_THRESHOLDS))[0] for _ in range(4)
    ]

    print(f"machine      {processor()}, one thread")
    print(f"versions     Python {platform.python_version()}, numpy {np.__version__}")
    print(
        f"size         {len(found)} predictions, {len(truth.videos)} videos, {len(scores.classes)} classes, "
        f"{scores.num_segments.sum()} segments, {len(TIOU_THRESHOLDS)} thresholds"
    )
    print(f"agreement    {difference:.1e}, average mAP(0.1:0.9) {metrics(scores)['mAP@0.1:0.9']:.2f} %")
    print(f"vectorised   {summary(fast_times)}; first call {first_s:.3f} s")
    print(f"plain loops  {summary(plain_times)}")
    print(f"ratio        {np.median(plain_times) / np.median(fast_times):.1f}")
    return 0


def make_predictions(truth: GroundTruth, count: int, generator: np.random.Generator) -> Detections:
    """Segments of the ground truth, both ends moved (sd 30 % of the length), a fifth with a random class."""
    drawn = generator.integers(len(truth.video), size=count)
    length_s = truth.end_s[drawn] - truth.start_s[drawn]
    start_s = truth.start_s[drawn] + 0.3 * length_s * generator.normal(size=count)
    end_s = truth.end_s[drawn] + 0.3 * length_s * generator.normal(size=count)
    relabelled = generator.random(count) < 0.2
    label = np.where(relabelled, generator.integers(len(truth.classes), size=count), truth.label[drawn])
    return Detections(
        videos=truth.videos,
        classes=truth.classes,
        video=truth.video[drawn],
        label=label,
        start_s=np.minimum(start_s, end_s),
        end_s=np.maximum(start_s, end_s),
        score=generator.random(count),
    )


def timed(run: Callable[[], DetectionScores]) -> tuple[float, DetectionScores]:
    """Seconds and result of one call."""
    start = time.perf_counter()
    scores = run()
    return time.perf_counter() - start, scores


def summary(times_s: list[float]) -> str:
    """Median and range of repeated timings."""
    return (
        f"{np.median(times_s):.3f} s median ({min(times_s):.3f} to {max(times_s):.3f}, {len(times_s)} runs)"
    )


def processor() -> str:
    """The processor's name where the system tells it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
