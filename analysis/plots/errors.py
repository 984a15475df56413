"""Errors of detections: what the sure ones are, what each kind costs, which segments they happen on."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analysis.load import Study
from analysis.localization.detad import ALPHA, KINDS, MIN_TIOU
from analysis.localization.errors import StudyErrors, read_errors
from analysis.localization.view import shown_arms
from analysis.plots.style import GOOD, GRID, PAIR, SERIES, Chart, figure, legend_below, styled

_COLOURS: Final = dict(zip(KINDS, (GOOD, *(SERIES[i] for i in (6, 5, 3, 4)), GRID), strict=True))
_SOURCE: Final = "Kinds of error as in Alwassel et al. (ECCV 2018)."


def errors_charts(study: Study) -> list[Chart]:
    """Draw the errors of two arms, over all seeds of the main selection.

    Raises NothingToShow if none of their trials has left detections.
    """
    errors = read_errors(study, shown_arms(study))
    arms = [arm for arm in shown_arms(study) if arm in set(errors.totals["arm"])]
    return [_profile(errors, arms), _gains(study, errors, arms), _sensitivity(study, errors, arms)]


def _profile(errors: StudyErrors, arms: Sequence[str]) -> Chart:
    num_segments = errors.totals["num_segments"].iloc[0]
    caption = (
        "Detections of each class in bands of as many as it has annotated segments "
        f"({num_segments} in all), the surest first; of each band the kinds of detections at tIoU {ALPHA:g}. "
        f"Localisation and confusion overlap a segment by {MIN_TIOU:g} to {ALPHA:g}, of their own class and "
        f"of another; background by less. {_seeds(errors, arms)} {_SOURCE}"
    )
    figures = tuple(_profile_figure(errors, arm) for arm in arms)
    return Chart("errors-profile", "What sure and unsure detections are", caption, figures)


def _profile_figure(errors: StudyErrors, arm: str) -> Figure:
    drawing, axes = figure(height=3.3)
    of_arm = errors.shares[errors.shares["arm"] == arm]
    counts = of_arm.pivot_table("count", ["seed", "band"], "kind", sort=True)[list(KINDS)]
    counts = counts[counts.sum(axis=1) > 0]
    percent = counts.div(counts.sum(axis=1), axis=0).mul(100).groupby("band").mean()
    with styled():
        below = np.zeros(len(percent))
        for kind in KINDS:
            axes.bar(percent.index, percent[kind], 0.86, below, color=_COLOURS[kind], label=kind)
            below += percent[kind].to_numpy()
        axes.set_title(arm)
        axes.set_xlabel("band of detections (1: the surest)")
        axes.set_ylabel("detections (%)")
        axes.set_xticks(percent.index)
        axes.set_ylim(0, 100)
        axes.set_xlim(0.4, max(percent.index, default=1) + 0.6)
        axes.grid(axis="x", visible=False)
        legend_below(drawing, axes)
    return drawing


def _gains(study: Study, errors: StudyErrors, arms: Sequence[str]) -> Chart:
    drawing, axes = figure(height=2.9)
    with styled():
        for place, arm in enumerate(arms):
            of_arm = errors.gains[errors.gains["arm"] == arm]
            values = of_arm.pivot(index="seed", columns="kind", values="gain")[list(KINDS[1:])]
            at = np.arange(len(KINDS) - 1) + _offset(place, len(arms))
            _spread(axes, values, at, place, arm, across=True)
        axes.set_yticks(range(len(KINDS) - 1), KINDS[1:])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel(f"{study.headline} gained")
        axes.grid(axis="y", visible=False)
        legend_below(drawing, axes)
    caption = (
        f"By how much {study.headline} (percent) would rise if all errors of one kind were taken out: points "
        f"are seeds (hollow: {arms[0]}), bars their means. The gains of several kinds do not add up. "
        f"{_seeds(errors, arms)} {_SOURCE}"
    )
    return Chart("errors-gains", "What each kind of error costs", caption, (drawing,))


def _sensitivity(study: Study, errors: StudyErrors, arms: Sequence[str]) -> Chart:
    scores = _bucket_figure(study, errors, arms, "map_n", "normalised mAP (%)")
    missed = _bucket_figure(study, errors, arms, "missed", "not found (%)")
    caption = (
        "Annotated segments by length (cut at their quartiles) and by how many of their class their video "
        f"has, with their number n. Left: {study.headline} of those segments with normalised precision, "
        "which takes out that buckets and classes differ in size; lines across: of all segments. Right: "
        f"segments that no detection finds at tIoU {ALPHA:g}. Points are seeds (hollow: {arms[0]}), bars "
        f"their means. {_seeds(errors, arms)} {_SOURCE}"
    )
    return Chart("errors-sensitivity", "Which segments are found", caption, (scores, missed))


def _bucket_figure(
    study: Study, errors: StudyErrors, arms: Sequence[str], measure: str, label: str
) -> Figure:
    drawing, axes = figure(height=3.0)
    buckets = errors.buckets.drop_duplicates(["characteristic", "bucket"])
    # A gap stands between two characteristics.
    gaps = (buckets["characteristic"] != buckets["characteristic"].shift()).cumsum() - 1
    at = np.arange(len(buckets)) + 0.6 * gaps.to_numpy()
    with styled():
        for place, arm in enumerate(arms):
            of_arm = errors.buckets[errors.buckets["arm"] == arm]
            values = of_arm.pivot(index="seed", columns=["characteristic", "bucket"], values=measure)
            values = values[list(zip(buckets["characteristic"], buckets["bucket"], strict=True))]
            _spread(axes, values, at + _offset(place, len(arms)), place, arm)
            of_all = errors.totals.loc[errors.totals["arm"] == arm, measure].mean()
            colour, _, line = PAIR[place]
            axes.axhline(of_all, color=colour, ls=line, lw=1.0)
        names = [f"{bucket}\nn {n}" for bucket, n in zip(buckets["bucket"], buckets["segments"], strict=True)]
        axes.set_xticks(at, names, fontsize=7.5)
        for characteristic, places in pd.Series(at).groupby(buckets["characteristic"].to_numpy()):
            axes.text(
                places.mean(), -0.27, str(characteristic), transform=axes.get_xaxis_transform(), ha="center"
            )
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.grid(axis="x", visible=False)
        legend_below(drawing, axes)
    return drawing


def _spread(
    axes: Axes, values: pd.DataFrame, at: np.ndarray, arm: int, label: str, *, across: bool = False
) -> None:
    """Draw seeds as points and their mean as a bar; `values` has a row for each seed, `arm` is 0 or 1."""
    means = values.mean()
    colour, filling, _ = PAIR[arm]
    look: dict[str, Any] = {"s": 13, "facecolors": filling, "edgecolors": colour, "lw": 0.8, "alpha": 0.8}
    places, seeds = np.repeat(at, len(values)), values.to_numpy().T.ravel()
    if across:
        axes.scatter(seeds, places, **look)
        axes.vlines(means, at - 0.15, at + 0.15, color=colour, lw=2.2, label=label)
    else:
        axes.scatter(places, seeds, **look)
        axes.hlines(means, at - 0.15, at + 0.15, color=colour, lw=2.2, label=label)


def _offset(place: int, count: int) -> float:
    return 0.36 * (place - (count - 1) / 2)


def _seeds(errors: StudyErrors, arms: Sequence[str]) -> str:
    counts = errors.totals["arm"].value_counts()
    words = "Mean over seeds: " + ", ".join(f"{arm} {counts[arm]}" for arm in arms) + "."
    lacking = "; ".join(f"{arm}: {reason}" for arm, reason in errors.missing.items())
    return f"{words} Missing: {lacking}." if lacking else words
