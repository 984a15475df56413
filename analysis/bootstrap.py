"""A second view of an ablation: what another draw of test videos would make of the same trained models.

Legend: V videos, C classes, R resamples (and before them the test set as it is), K tIoU thresholds, M
detections that find a segment at one threshold at least.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis._text import decimals, interval, signed
from analysis.ablation import Comparison, arm_runs, comparisons, final_values
from analysis.intervals import t_interval
from analysis.load import Study
from analysis.localization.evaluation import as_detections, require_same, scored_on
from analysis.statistics import paired_differences
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table
from ftcl.evaluation import Detections, GroundTruth, match_detections
from study.records import RecordsError

NUM_RESAMPLES: Final = 1_000

Floats = NDArray[np.float32]


class _Draws(NamedTuple):
    """How often each video is in each resample; in the first one every video is once."""

    times_VR: Floats
    num_segments_CR: Floats


class _Run(NamedTuple):
    """A trial's headline in every resample."""

    trial: int
    values_R: NDArray[np.float64]


def video_bootstrap(study: Study, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """Return a row per comparison: the interval of its headline difference over draws of the test videos.

    Videos are drawn with replacement, the same ones for all arms and seeds; one that is drawn twice counts as
    two. The headline is computed anew from the recorded detections and averaged over the n paired seeds.
    ci_low and ci_high are the 2.5 and 97.5 % quantiles over resamples, sd the standard deviation, bias their
    mean less the difference itself, better the share in which the arm is ahead; seeds_low and seeds_high are
    the paired-t interval over the same seeds.
    The trained models stay as they are: this is the variance of the test set, and none of training.
    left_out says which runs are not in it and why: their detections are lost, damaged, or do not give the
    value on record. Raises NothingToShow without detections, or if the headline is no mean average precision.
    """
    wanted = [comparison for comparison in comparisons(study) if comparison.against is not None]
    arms = dict.fromkeys(arm for comparison in wanted for arm in comparison if arm is not None)
    runs = _runs(study, list(arms), num_resamples, seed)
    rows = [row for comparison in wanted for row in _rows(study, comparison, runs)]
    if not rows:
        reasons = (run for of_arm in runs.values() for run in of_arm.values() if isinstance(run, str))
        first = next(reasons, None)
        detail = f" (first: {first})" if first else ""
        raise NothingToShow(f"no two runs of one seed have left their detections{detail}")
    return pd.DataFrame(rows).assign(num_resamples=num_resamples)


def video_bootstrap_table(*studies: Study) -> Table:
    """Return `video_bootstrap` to read, beside the intervals over seeds; raises what that raises."""
    return side_by_side(studies, _table)


def _table(study: Study) -> Table:
    long = video_bootstrap(study)
    digits = decimals(long["diff"])
    rows = []
    for _, row in long.iterrows():
        seeds = interval(row["seeds_low"], row["seeds_high"], digits)
        has_interval = np.isfinite(row["seeds_low"])
        cells = (
            Cell(row["arm"]),
            _seeds_cell(row, max(study.num_seeds, len(study.main_seeds))),
            Cell(signed(row["diff"], digits), row["diff"], row["trials"]),
            Cell(interval(row["ci_low"], row["ci_high"], digits), None, row["trials"]),
            Cell(seeds, None, row["trials"]) if has_interval else Cell("", missing="it takes two seeds"),
            Cell(_ahead(row["better"], row["num_resamples"]), row["better"], row["trials"]),
        )
        rows.append(Row(cells, section=f"against {row['baseline']}"))
    return Table(
        name="video_bootstrap",
        title=f"Test-set variance: {study.headline} on {study.data}",
        columns=(
            Column("arm", align="left"),
            Column("seeds"),
            Column("difference"),
            Column("over test videos", "95 % interval"),
            Column("over seeds", "95 % interval"),
            Column("ahead"),
        ),
        rows=tuple(rows),
        long=long.drop(columns=["trials"]),
        notes=(
            f"Over test videos: {NUM_RESAMPLES} times, as many videos as there are "
            f"({long['n_videos'].iloc[0]}) are drawn with replacement, the same for all arms and seeds, and "
            "the headline is computed anew from the recorded detections; 2.5 and 97.5 % quantiles. The "
            "trained models stay as they are.",
            "This is the variance of the test set: how far a difference hangs on which videos are in it. It "
            "says nothing of other training seeds, for which the interval over seeds (paired t) stands.",
            "Neither interval holds both: for other seeds on other videos it is wider than either. Neither "
            "is corrected for the number of rows.",
            "Videos are taken as independent; where several show one person or place, the true interval is "
            "wider (in the bundled watch 12 videos each are cut from the recordings of one person and side: "
            "up to 1.6 times as wide).",
            f"The mean of the draws lies up to {long['bias'].abs().max():.2f} from the difference (bias in "
            "the CSV), as draws repeat videos; the quantiles are not corrected for it.",
            "Ahead: the share of the draws in which the arm is better than what it is compared with.",
        ),
    )


def _seeds_cell(row: pd.Series, wanted: int) -> Cell:
    n = int(row["n"])
    short = f"{wanted - n} of {wanted} pairs of {row['arm']} and {row['baseline']} are not complete"
    reason = row["left_out"] or short
    return (
        Cell(str(n), n, row["trials"]) if n == wanted else Cell(f"{n} of {wanted}", n, row["trials"], reason)
    )


def _ahead(better: float, num_resamples: int) -> str:
    """Return a share of the draws as a percentage, all and none of them as bounds."""
    if better in (0, 1):
        bound = 100 / num_resamples
        return f"> {100 - bound:.1f} %" if better else f"< {bound:.1f} %"
    return f"{100 * better:.1f} %"


def _rows(
    study: Study, comparison: Comparison, runs: Mapping[str, Mapping[int, _Run | str]]
) -> Iterator[dict[str, Any]]:
    arm, against = comparison.arm, comparison.against
    assert against is not None
    both = [(runs[arm][seed], runs[against][seed]) for seed in runs[arm] if seed in runs[against]]
    pairs = [(own, other) for own, other in both if isinstance(own, _Run) and isinstance(other, _Run)]
    if not pairs:
        return
    values_SR = np.stack([own.values_R for own, _ in pairs])
    others_SR = np.stack([other.values_R for _, other in pairs])
    differences_R = (values_SR - others_SR).mean(axis=0)
    drawn = differences_R[1:]
    low, high = np.quantile(drawn, [0.025, 0.975])
    over_seeds = t_interval(paired_differences(values_SR[:, 0], others_SR[:, 0]))
    sign = 1 if study.metrics[study.headline] == "max" else -1
    yield {
        "arm": arm,
        "baseline": against,
        "metric": study.headline,
        "n": len(pairs),
        "n_videos": len(study.ground_truth()),
        "diff": differences_R[0],
        "ci_low": low,
        "ci_high": high,
        "sd": drawn.std(ddof=1),
        "bias": drawn.mean() - differences_R[0],
        "better": (sign * drawn > 0).mean(),
        "seeds_low": over_seeds.low,
        "seeds_high": over_seeds.high,
        "trials": tuple(run.trial for pair in pairs for run in pair),
        "left_out": "; ".join(dict.fromkeys(run for pair in both for run in pair if isinstance(run, str))),
    }


def _runs(study: Study, arms: list[str], num_resamples: int, seed: int) -> dict[str, dict[int, _Run | str]]:
    """Return each arm's complete runs by seed, or why one has no value in the resamples."""
    ground_truth, thresholds = scored_on(study)
    draws = _draw(ground_truth, num_resamples, seed)
    seeds = study.main_seeds
    found: dict[str, dict[int, _Run | str]] = {arm: {} for arm in arms}
    for arm in arms:
        of_arm = arm_runs(study, arm, seeds)
        values = final_values(of_arm, study.headline)
        for run_seed, number, value in zip(seeds, of_arm["trial"], values, strict=True):
            if np.isfinite(value):
                found[arm][run_seed] = _run(study, int(number), value, ground_truth, thresholds, draws)
    return found


def _run(
    study: Study,
    trial: int,
    value: float,
    ground_truth: GroundTruth,
    thresholds: NDArray[np.float64],
    draws: _Draws,
) -> _Run | str:
    try:
        detections = as_detections(study.predictions(trial), ground_truth)
        headline_R = 100 * _mean_average_precision(ground_truth, detections, thresholds, draws)
        require_same(study, trial, headline_R[0], value)
    except RecordsError as error:
        return str(error)
    return _Run(trial, headline_R)


def _draw(ground_truth: GroundTruth, num_resamples: int, seed: int) -> _Draws:
    num_videos, num_classes = len(ground_truth.videos), len(ground_truth.classes)
    times_RV = np.random.default_rng(seed).multinomial(
        num_videos, [1 / num_videos] * num_videos, num_resamples
    )
    times_VR = np.vstack([np.ones(num_videos), times_RV]).T.astype(np.float32)
    segments_CV = np.zeros((num_classes, num_videos), dtype=np.float32)
    np.add.at(segments_CV, (ground_truth.label, ground_truth.video), 1)
    num_segments_CR = segments_CV @ times_VR
    # A draw without any segment cannot be scored. It takes a test set of hardly any videos.
    scored = num_segments_CR.any(axis=0)
    return _Draws(times_VR[:, scored], num_segments_CR[:, scored])


def _mean_average_precision(
    ground_truth: GroundTruth, detections: Detections, thresholds: NDArray[np.float64], draws: _Draws
) -> NDArray[np.float64]:
    """Return mAP in 0..1, averaged over the thresholds, for every resample, (R,).

    Detections match within their video, so the matching holds for all draws; only their weights change:

        AP = 1/G Σ_i w_i max_{j ≥ i} TP_j / N_j,   TP_j = Σ_{i ≤ j, matched} w_i,   N_j = Σ_{i ≤ j} w_i

    in descending score, w the times that a detection's video is drawn and G the weighted number of segments.
    Copies of a video stand side by side, so this is the AP of the drawn videos exactly. Only detections that
    find a segment enter the maximum; for them, N = A w with A counting detections by video.
    """
    found_KG = match_detections(ground_truth, detections, thresholds)
    order = np.argsort(-detections.score, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    total_R = np.zeros(draws.times_VR.shape[1])
    for label in np.unique(ground_truth.label):
        # The segments that match_detections has in its columns are those of all videos, in order.
        matches_KG = found_KG[:, ground_truth.label == label]
        found = np.unique(matches_KG[matches_KG >= 0])
        found = found[np.argsort(rank[found])]
        if not found.size:
            continue
        of_class = np.flatnonzero(detections.label == label)
        num_above_MR = _num_above(detections, of_class, found, rank, draws.times_VR)
        for matches_G in matches_KG:
            matched = np.isin(found, matches_G)
            weight_MR = draws.times_VR[detections.video[found[matched]]]
            precision_MR = np.cumsum(weight_MR, axis=0) / np.maximum(num_above_MR[matched], 1)
            envelope_MR = np.maximum.accumulate(precision_MR[::-1], axis=0)[::-1]
            gained_R = (weight_MR * envelope_MR).sum(axis=0)
            total_R += gained_R / np.maximum(draws.num_segments_CR[label], 1)
    num_classes_R = (draws.num_segments_CR > 0).sum(axis=0)
    return total_R / (num_classes_R * len(thresholds))


def _num_above(
    detections: Detections,
    of_class: NDArray[np.intp],
    found: NDArray[np.intp],
    rank: NDArray[np.intp],
    times_VR: Floats,
) -> Floats:
    """Return for each found detection how many of its class rank up to it, in every resample, (M, R)."""
    num_videos = len(times_VR)
    place = np.searchsorted(rank[found], rank[of_class])
    counted = place < len(found)
    cells = place[counted] * num_videos + detections.video[of_class[counted]]
    counts_MV = np.bincount(cells, minlength=len(found) * num_videos).reshape(len(found), num_videos)
    return np.cumsum(counts_MV, axis=0).astype(np.float32) @ times_VR
