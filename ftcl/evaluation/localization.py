"""From class activations and attention to scored, timed action proposals of one video.

Legend: T snippets, C classes, K chosen classes, P points (upsampled snippets), H thresholds, R runs.
"""

from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftcl.evaluation.nms import non_maximum_suppression
from ftcl.evaluation.types import Floats, Ints, VideoDetections


def _option(default: Any, help: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A field with its meaning and its inclusive range, for a tuple that of each value."""
    # The recipes' `option` would be an import in a circle: they build on this package.
    return field(default=default, metadata={"help": help, "low": low, "high": high})


@dataclass(frozen=True)
class LocalizationConfig:
    """How proposals are made, scored and thinned out; the defaults are ACM-Net's for THUMOS14.

    Raises ValueError for a value that is out of its range.
    """

    video_score_threshold: float = _option(
        0.25,
        "classes whose video score is above this are localized; the best class if none is",
        low=0.0,
        high=1.0,
    )
    cas_thresholds: tuple[float, ...] = _option(
        (0.15, 0.20),
        "each makes proposals of the runs where the class's activation reaches it",
        low=0.0,
        high=1.0,
    )
    attention_thresholds: tuple[float, ...] = _option(
        # The released values to the last bit: 0.30000000000000004 is among them.
        tuple(np.arange(0.15, 1.0, 0.05).tolist()),
        "each makes proposals, for every chosen class, of the runs where the attention reaches it",
        low=0.0,
        high=1.0,
    )
    upsampling: int = _option(20, "points for each snippet", low=1)
    outer_margin: float = _option(
        0.2, "width of either outer area, as a share of the proposal's length", low=0.0
    )
    attention_weight: float = _option(
        0.0,
        "share of the attention in the map that scores a proposal; the activation has the rest",
        low=0.0,
        high=1.0,
    )
    video_score_weight: float = _option(
        0.0,
        "this times the class's video score is added to the score of an attention proposal",
        low=0.0,
    )
    nms_tiou: float = _option(
        0.55, "a proposal that overlaps a better one of its class so much is dropped", low=0.0, high=1.0
    )
    nms_reference_plus_one: bool = _option(
        False, "add one second to lengths and overlaps in the suppression, as ACM-Net's code does"
    )

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            low, high = option.metadata["low"], option.metadata["high"]
            for number in value if isinstance(value, tuple) else (value,):
                # Written so that NaN is out of every range.
                if not ((low is None or number >= low) and (high is None or number <= high)):
                    limits = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
                    raise ValueError(f"{option.name} must be {limits}, got {value!r}")


def localize(
    cas_TC: ArrayLike,
    attention_T: ArrayLike,
    video_scores_C: ArrayLike,
    *,
    num_snippets: int,
    snippet_s: float,
    config: LocalizationConfig,
) -> VideoDetections:
    """Proposals of one video: thresholded runs, outer-inner contrast scores, class-wise suppression.

    `cas_TC` is the instance branch's softmax over classes without the background column, `attention_T` the
    instance attention, both at the T snippets that the network saw; `video_scores_C` the instance branch's
    video-level softmax. The video has `num_snippets` snippets of `snippet_s` seconds each.

    The sequences are upsampled linearly to P = upsampling·T points i/upsampling, extrapolated from the last
    two snippets beyond the last (constant if T = 1). A run [i, j] of two or more points where a sequence is
    at least the threshold becomes

        [i·dt, (j+1)·dt],  dt = snippet_s·num_snippets / (upsampling·T)
        score = mean inside − mean outside

    of the class's activation, which is set to 0 below the threshold for runs of that activation. Outside are
    the points [max(0, int(i − m·n)), i) and (j, min(P−1, int(j + m·n))] for a run of n points and the outer
    margin m; their mean is 0 if there are none. With an `attention_weight` w the scored map is
    (1−w)·activation + w·attention, the thresholded one of the two set to 0 below the threshold; with a
    `video_score_weight` γ, γ·(video score of the class) is added to the score of attention proposals.

    Classes ascend, and scores descend within a class. Computed in float64.
    Raises ValueError for shapes that do not fit and for values that are not finite.
    Source: ACM-Net (arXiv 2104.02967), released code; outer-inner contrast: Shou et al., ECCV 2018.
    """
    cas_TC, attention_T, video_scores_C = (
        np.asarray(values, dtype=np.float64) for values in (cas_TC, attention_T, video_scores_C)
    )
    _check(cas_TC, attention_T, video_scores_C, num_snippets, snippet_s)
    chosen_K = np.flatnonzero(video_scores_C > config.video_score_threshold)
    if not chosen_K.size:
        chosen_K = np.array([np.argmax(video_scores_C)])

    cas_KP = _upsample(cas_TC[:, chosen_K].T, config.upsampling)
    attention_P = _upsample(attention_T, config.upsampling)
    bonus_K = config.video_score_weight * video_scores_C[chosen_K]
    proposals = _join(
        _cas_proposals(cas_KP, attention_P, config),
        _attention_proposals(cas_KP, attention_P, bonus_K, config),
    )
    point_s = snippet_s * num_snippets / (config.upsampling * len(attention_T))
    start_P, end_P = proposals.first.astype(np.float64), (proposals.last + 1).astype(np.float64)
    # Proposals lie on a grid, where tIoU is often exactly the threshold: points are exact, with seconds the
    # rounding would decide. Only the authors' added second needs seconds.
    added_s, unit_s = (1.0, point_s) if config.nms_reference_plus_one else (0.0, 1.0)
    kept = non_maximum_suppression(
        start_P * unit_s,
        end_P * unit_s,
        proposals.score,
        proposals.group,
        max_tiou=config.nms_tiou,
        added_s=added_s,
    )
    return VideoDetections(
        chosen_K[proposals.group[kept]],
        start_P[kept] * point_s,
        end_P[kept] * point_s,
        proposals.score[kept],
    )


class _Proposals(NamedTuple):
    """Runs of points [first, last], each for one of the chosen classes (`group`, its place among them)."""

    group: Ints
    first: Ints
    last: Ints
    score: Floats


def _cas_proposals(cas_KP: Floats, attention_P: Floats, config: LocalizationConfig) -> _Proposals:
    num_chosen, num_points = cas_KP.shape
    reached_HKP = cas_KP >= np.array(config.cas_thresholds).reshape(-1, 1, 1)
    row, first, last = _runs(reached_HKP.reshape(-1, num_points))
    zeroed = (cas_KP * reached_HKP).reshape(-1, num_points)
    weight = config.attention_weight
    score = (1.0 - weight) * _contrast(zeroed, row, first, last, config.outer_margin)
    if weight:
        score += weight * _contrast(attention_P[None], 0 * row, first, last, config.outer_margin)
    return _Proposals(row % num_chosen, first, last, score)


def _attention_proposals(
    cas_KP: Floats, attention_P: Floats, bonus_K: Floats, config: LocalizationConfig
) -> _Proposals:
    num_chosen = len(cas_KP)
    reached_HP = attention_P >= np.array(config.attention_thresholds).reshape(-1, 1)
    runs = _runs(reached_HP)
    group = np.repeat(np.arange(num_chosen), len(runs[0]))
    row, first, last = (np.tile(column, num_chosen) for column in runs)
    weight = config.attention_weight
    # The contrast of a blend is the blend of the contrasts, so no map of all thresholds and classes is made.
    score = (1.0 - weight) * _contrast(cas_KP, group, first, last, config.outer_margin) + bonus_K[group]
    if weight:
        score += weight * _contrast(attention_P * reached_HP, row, first, last, config.outer_margin)
    return _Proposals(group, first, last, score)


def _contrast(maps: Floats, row: Ints, first: Ints, last: Ints, outer_margin: float) -> Floats:
    """Outer-inner contrast in row `row` of `maps`: mean over [first, last] minus mean over both margins."""
    length = last - first + 1
    # astype truncates towards zero like int(); the order of operations is the released code's.
    outer_first = np.maximum((first - outer_margin * length).astype(np.intp), 0)
    outer_last = np.minimum((last + outer_margin * length).astype(np.intp), maps.shape[1] - 1)
    outer_length = outer_last - outer_first + 1 - length
    outer_sum = _sums(maps, row, outer_first, first) + _sums(maps, row, last + 1, outer_last + 1)
    return _sums(maps, row, first, last + 1) / length - outer_sum / np.maximum(outer_length, 1)


def _sums(maps: Floats, row: Ints, first: Ints, stop: Ints) -> Floats:
    """Sums of maps[row, first:stop].

    Not differences of running sums: where the activation is nearly 0 their rounding would decide which of
    two proposals scores higher, and so which one the suppression keeps.
    """
    bounds = (row * maps.shape[1] + np.stack([first, stop])).T.reshape(-1)
    return np.where(first < stop, np.add.reduceat(np.append(maps, 0.0), bounds)[::2], 0.0)


def _runs(reached: NDArray[np.bool_]) -> tuple[Ints, Ints, Ints]:
    """Row, first and last point of every run of at least two points in each row of `reached`."""
    padded = np.zeros((reached.shape[0], reached.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = reached
    # Every row starts and ends at 0, so its changes alternate: into a run, out of a run.
    row, point = np.nonzero(padded[:, 1:] != padded[:, :-1])
    row, first, last = row[::2], point[::2], point[1::2] - 1
    long_enough = last > first
    return row[long_enough], first[long_enough], last[long_enough]


def _upsample(values: Floats, upsampling: int) -> Floats:
    """Linear interpolation of the last axis at i/upsampling, extrapolated beyond the last value."""
    num_values = values.shape[-1]
    if num_values == 1:
        return np.repeat(values, upsampling, axis=-1)
    position = np.arange(num_values * upsampling) / upsampling
    left = np.minimum(position.astype(np.intp), num_values - 2)
    return values[..., left] + (position - left) * (values[..., left + 1] - values[..., left])


def _join(*parts: _Proposals) -> _Proposals:
    return _Proposals(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _check(
    cas_TC: Floats, attention_T: Floats, video_scores_C: Floats, num_snippets: int, snippet_s: float
) -> None:
    shapes = (cas_TC.shape, attention_T.shape, video_scores_C.shape)
    if cas_TC.ndim != 2 or 0 in cas_TC.shape or shapes[1:] != (shapes[0][:1], shapes[0][1:]):
        raise ValueError(
            f"activation, attention and video scores must have shapes (T, C), (T,) and (C,), got {shapes}"
        )
    if num_snippets < 1 or not snippet_s > 0:
        raise ValueError(f"a video needs snippets of a positive length, got {num_snippets} of {snippet_s} s")
    named = {"activation": cas_TC, "attention": attention_T, "video scores": video_scores_C}
    for name, values in named.items():
        if not np.isfinite(values).all():
            raise ValueError(f"the {name} must be finite; a network whose training failed gives others")
