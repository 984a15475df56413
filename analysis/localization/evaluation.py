"""A study's annotations and detections as `ftcl.evaluation` takes them."""

import math
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.load import Study
from analysis.tables.table import NothingToShow
from ftcl.evaluation import Detections, GroundTruth, metric_thresholds
from study.records import GROUND_TRUTH, RecordsError, predictions_name

_TOLERANCE: Final = 1e-3  # of 100, in single precision


def class_names(study: Study) -> tuple[str, ...]:
    """Return the action classes in the order of the activation's columns.

    A study that does not tell them has those of its test annotations, by name: every dataset numbers its
    classes so.
    """
    recorded = study.manifest["data"].get("classes")
    if recorded is not None:
        return tuple(recorded)
    annotated = study.ground_truth().values()
    return tuple(sorted({item["label"] for video in annotated for item in video["annotations"]}))


def read_ground_truth(study: Study) -> GroundTruth:
    """Read the annotations of the test videos."""
    database, classes = study.ground_truth(), class_names(study)
    rows = [
        (index, classes.index(item["label"]), *item["segment"])
        for index, video in enumerate(database.values())
        for item in video["annotations"]
    ]
    video, label, start_s, end_s = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return GroundTruth(
        videos=tuple(database),
        classes=classes,
        duration_s=np.array([entry.get("duration", math.nan) for entry in database.values()]),
        video=video.astype(np.intp),
        label=label.astype(np.intp),
        start_s=start_s,
        end_s=end_s,
    )


def scored_on(study: Study) -> tuple[GroundTruth, NDArray[np.float64]]:
    """Return the annotations of the test videos and the tIoU thresholds of the headline.

    Raises NothingToShow if the headline is no mean average precision, or nothing is annotated.
    """
    try:
        thresholds = metric_thresholds(study.headline)
    except ValueError as error:
        # Its message lists all names there are; a reader has not chosen this one here.
        raise NothingToShow(f"{study.headline} is no mean average precision of detections") from error
    if not study.store.exists(GROUND_TRUTH):
        raise NothingToShow("the annotations of the test videos are not among the records")
    ground_truth = read_ground_truth(study)
    if not len(ground_truth.label):
        raise NothingToShow("the test videos have no annotated segment")
    return ground_truth, thresholds


def as_detections(predictions: pd.DataFrame, ground_truth: GroundTruth) -> Detections:
    """Turn a trial's predictions into detections of the videos and classes of the ground truth, in order.

    Those of classes that no test video has are left out: they count nowhere.
    """
    codes = {
        name: pd.Categorical(predictions[name], categories=names).codes
        for name, names in (("video", ground_truth.videos), ("label", ground_truth.classes))
    }
    known = (codes["video"] >= 0) & (codes["label"] >= 0)
    numbers = (predictions[name].to_numpy()[known] for name in ("start_s", "end_s", "score"))
    return Detections(
        ground_truth.videos,
        ground_truth.classes,
        codes["video"][known].astype(np.intp),
        codes["label"][known].astype(np.intp),
        *numbers,
    )


def require_same(study: Study, trial: int, computed: float, recorded: float) -> None:
    """Raise RecordsError if a trial's detections have another headline (in percent) than its record."""
    if abs(computed - recorded) > _TOLERANCE:
        raise RecordsError(
            f"{study.store.place(predictions_name(trial))} gives {study.headline} = {computed:.4f}, but the "
            f"record of trial {trial} says {recorded:.4f}, so they are not of one run"
        )
