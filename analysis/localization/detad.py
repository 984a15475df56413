"""Which errors the detections of a trial make, as DETAD diagnoses temporal detectors.

N detections, G annotated segments, K tIoU thresholds. A detection that is no true positive at tIoU α is
judged by the annotated segment, of any class, that it overlaps most (ties: one of its own class):

    double detection   tIoU >= α, own class: a surer detection has found the segment already
    wrong label        tIoU >= α, another class
    localisation       β <= tIoU < α, own class
    confusion          β <= tIoU < α, another class
    background         tIoU < β = 0.1

Source: Alwassel, Caba Heilbron, Escorcia and Ghanem, "Diagnosing Error in Temporal Action Detectors", ECCV
2018, arXiv 1807.10706. Of its characteristics, length and number of instances are looked at.
"""

import itertools
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ftcl.evaluation import Detections, GroundTruth, match_detections

KINDS: Final = (
    "true positive",
    "double detection",
    "wrong label",
    "localisation",
    "confusion",
    "background",
)
ALPHA: Final = 0.5
"""tIoU at which shares of errors and segments not found are counted."""
MIN_TIOU: Final = 0.1
"""β: below it, a detection has nothing to do with a segment."""
NUM_BANDS: Final = 10
"""Detections of a class are looked at in bands of as many as it has annotated segments, the surest first."""

_BLOCK: Final = 1 << 15  # detections whose overlaps are computed at a time, which bounds the memory
Flags = NDArray[np.bool_]
Ints = NDArray[np.intp]
Floats = NDArray[np.float64]


class TrialErrors(NamedTuple):
    """The errors of one trial's detections, as long tables."""

    shares: pd.DataFrame  # band 1..NUM_BANDS, kind, count: detections at tIoU ALPHA
    gains: pd.DataFrame  # kind, gain: in mAP (percent), were there no error of that kind
    buckets: pd.DataFrame  # characteristic, bucket, segments, map_n (percent), missed (percent at ALPHA)
    mean_ap: float  # mAP in percent over the thresholds, as the study reports it
    map_n: float  # the same with normalised precision
    missed: float  # percent of the segments that no detection finds at ALPHA


def analyse(ground_truth: GroundTruth, detections: Detections, thresholds: Floats) -> TrialErrors:
    """Return the errors of a trial, mAP averaged over `thresholds` (K,).

    With removed errors only precision changes: a false positive holds no segment, so who finds which stays.
    """
    detections = _surest_first(ground_truth, detections)
    match_KG = match_detections(ground_truth, detections, [*thresholds, ALPHA])
    tiou, is_own = _best_overlaps(ground_truth, detections)
    num_segments = np.bincount(ground_truth.label, minlength=len(ground_truth.classes))
    kind_KN = np.stack(
        [
            _kinds(alpha, found_G, tiou, is_own)
            for alpha, found_G in zip([*thresholds, ALPHA], match_KG, strict=True)
        ]
    )
    base = _mean_ap(detections.label, kind_KN[:-1] == 0, kind_KN[:-1] > 0, num_segments)
    gains = [
        _mean_ap(
            detections.label, kind_KN[:-1] == 0, (kind_KN[:-1] > 0) & (kind_KN[:-1] != kind), num_segments
        )
        - base
        for kind in range(1, len(KINDS))
    ]
    norm = num_segments.sum() / np.count_nonzero(num_segments)
    return TrialErrors(
        shares=_shares(detections.label, kind_KN[-1], num_segments),
        gains=pd.DataFrame({"kind": KINDS[1:], "gain": gains}),
        buckets=pd.DataFrame(
            [
                _bucket(ground_truth, detections.label, match_KG, characteristic, bucket, inside_G, norm)
                for characteristic, bucket, inside_G in buckets(ground_truth)
            ],
            columns=["characteristic", "bucket", "segments", "map_n", "missed"],
        ),
        mean_ap=base,
        map_n=_mean_ap(detections.label, kind_KN[:-1] == 0, kind_KN[:-1] > 0, num_segments, norm),
        missed=100 * float((match_KG[-1] < 0).mean()),
    )


def buckets(ground_truth: GroundTruth) -> Iterator[tuple[str, str, Flags]]:
    """Yield (characteristic, bucket, which segments are in it); empty buckets are left out.

    Lengths are cut at the quartiles of these segments. The number of instances of its class in a segment's
    video is cut as in the source for ActivityNet.
    """
    length_s = ground_truth.end_s - ground_truth.start_s
    edges = np.unique(np.quantile(length_s, (0.25, 0.5, 0.75)))
    place_G = np.searchsorted(edges, length_s, side="left")
    shown = [f"{edge:.{1 if edge < 10 else 0}f}" for edge in edges]
    between = (f"{low}–{high}" for low, high in itertools.pairwise(shown))
    names = [f"≤ {shown[0]}", *between, f"> {shown[-1]}"]
    yield from _occurring("length (s)", names, place_G)
    key = ground_truth.video * len(ground_truth.classes) + ground_truth.label
    _, inverse, count = np.unique(key, return_inverse=True, return_counts=True)
    place_G = np.searchsorted((1, 4, 8), count[inverse.reshape(-1)], side="left")
    yield from _occurring("instances", ["1", "2–4", "5–8", "> 8"], place_G)


def _occurring(characteristic: str, names: list[str], place_G: Ints) -> Iterator[tuple[str, str, Flags]]:
    for place, name in enumerate(names):
        if (place_G == place).any():
            yield characteristic, name, place_G == place


def _surest_first(ground_truth: GroundTruth, detections: Detections) -> Detections:
    """Sort detections by class and score, equal scores as they were; without classes that have no segment."""
    kept = np.flatnonzero(np.isin(detections.label, ground_truth.label))
    kept = kept[np.lexsort((-detections.score[kept], detections.label[kept]))]
    return Detections(
        detections.videos,
        detections.classes,
        detections.video[kept],
        detections.label[kept],
        detections.start_s[kept],
        detections.end_s[kept],
        detections.score[kept],
    )


def _best_overlaps(ground_truth: GroundTruth, detections: Detections) -> tuple[Floats, Flags]:
    """Return each detection's highest tIoU with a segment of its video, and whether that is of its class."""
    by_video = np.argsort(ground_truth.video, kind="stable")
    size_V = np.bincount(ground_truth.video, minlength=len(ground_truth.videos))
    first_V = np.cumsum(size_V) - size_V
    best = np.zeros((2, len(detections)))  # of other classes, of the own
    for low in range(0, len(detections), _BLOCK):
        block = np.arange(low, min(low + _BLOCK, len(detections)))
        size = size_V[detections.video[block]]
        n = np.repeat(block, size)
        within = np.arange(len(n)) - np.repeat(np.cumsum(size) - size, size)
        g = by_video[first_V[detections.video[n]] + within]
        start_s, end_s = detections.start_s[n], detections.end_s[n]
        common_s = np.minimum(end_s, ground_truth.end_s[g]) - np.maximum(start_s, ground_truth.start_s[g])
        common_s = np.maximum(common_s, 0.0)
        union_s = (ground_truth.end_s[g] - ground_truth.start_s[g]) + (end_s - start_s) - common_s
        is_own = (detections.label[n] == ground_truth.label[g]).astype(np.intp)
        # A detection without length may have union 0 with nothing in common.
        np.maximum.at(best, (is_own, n), common_s / np.where(union_s > 0, union_s, 1.0))
    return best.max(axis=0), best[1] >= best[0]


def _kinds(alpha: float, found_G: Ints, tiou: Floats, is_own: Flags) -> Ints:
    """Return the place in KINDS of each detection, (N,)."""
    near = np.where(is_own, KINDS.index("double detection"), KINDS.index("wrong label"))
    far = np.where(is_own, KINDS.index("localisation"), KINDS.index("confusion"))
    kind = np.where(tiou >= alpha, near, np.where(tiou >= MIN_TIOU, far, KINDS.index("background")))
    kind[found_G[found_G >= 0]] = KINDS.index("true positive")
    return kind


def _shares(label: Ints, kind: Ints, num_segments: Ints) -> pd.DataFrame:
    first = np.searchsorted(label, np.arange(len(num_segments)))
    band = (np.arange(len(label)) - first[label]) // num_segments[label]
    inside = band < NUM_BANDS
    count = np.bincount(band[inside] * len(KINDS) + kind[inside], minlength=NUM_BANDS * len(KINDS))
    return pd.DataFrame(
        {
            "band": np.repeat(np.arange(1, NUM_BANDS + 1), len(KINDS)),
            "kind": np.tile(KINDS, NUM_BANDS),
            "count": count,
        }
    )


def _bucket(
    ground_truth: GroundTruth,
    label: Ints,
    match_KG: Ints,
    characteristic: str,
    bucket: str,
    inside_G: Flags,
    norm: float,
) -> tuple[str, str, int, float, float]:
    """Score a bucket of segments; detections that found segments elsewhere count neither way."""
    num_segments = np.bincount(ground_truth.label[inside_G], minlength=len(ground_truth.classes))
    is_true, is_false = _flags(match_KG[:-1, inside_G], len(label)), ~_flags(match_KG[:-1], len(label))
    return (
        characteristic,
        bucket,
        int(inside_G.sum()),
        _mean_ap(label, is_true, is_false, num_segments, norm),
        100 * float((match_KG[-1, inside_G] < 0).mean()),
    )


def _flags(match_KG: Ints, num_detections: int) -> Flags:
    found = np.zeros((len(match_KG), num_detections + 1), dtype=bool)
    found[np.arange(len(match_KG))[:, None], match_KG] = True  # those not found go to the last place
    return found[:, :-1]


def _mean_ap(
    label: Ints, is_true_KN: Flags, is_false_KN: Flags, num_segments: Ints, norm: float | None = None
) -> float:
    """Return the mean over classes and thresholds of the average precision, in percent.

    Detections are sorted by class and score; those that are neither true nor false do not count. With `norm`
    the precision of a class of G_c segments is that which it would have with `norm` segments at the same
    recall, TP·norm/G_c / (TP·norm/G_c + FP): classes of different sizes can be compared.
    """
    bounds = np.searchsorted(label, np.arange(len(num_segments) + 1))
    values = []
    for c in np.flatnonzero(num_segments):
        is_true = is_true_KN[:, bounds[c] : bounds[c + 1]]
        num_true = np.cumsum(is_true, axis=1) * (1.0 if norm is None else norm / num_segments[c])
        num_false = np.cumsum(is_false_KN[:, bounds[c] : bounds[c + 1]], axis=1)
        precision = num_true / np.maximum(num_true + num_false, 1e-12)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        values.append((envelope * is_true).sum(axis=1) / num_segments[c])
    return 100 * float(np.mean(values))
