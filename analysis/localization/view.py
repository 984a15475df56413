"""Which trials and videos are looked at: chosen by rule, never by what there is to see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.load import Family, Study
from analysis.localization.evaluation import as_detections, read_ground_truth
from analysis.tables.components import components, has_component
from analysis.tables.table import NothingToShow
from ftcl.evaluation import match_detections
from study.records import RecordsError

FOUND_TIOU = 0.5
"""A proposal is drawn as right if it is a true positive at this tIoU."""

HOW_CHOSEN = (
    "Videos and seed are chosen by rule: the test videos that the study keeps details of, in their order on "
    "record, and the first seed on which both arms are complete."
)


@dataclass(frozen=True, eq=False)
class View:
    """A finished trial of an arm, opened to be looked at."""

    arm: str
    seed: int
    trial: int
    details: Mapping[str, np.ndarray]  # "<video>/cas", "<video>/attention", "<first>|<second>/fsd_match", ...
    proposals: pd.DataFrame  # video, label, start_s, end_s, score, found

    @property
    def videos(self) -> tuple[str, ...]:
        """The videos with an activation sequence, in their order on record."""
        return tuple(name.removesuffix("/cas") for name in self.details if name.endswith("/cas"))

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The pairs of videos with an alignment, in their order on record."""
        names = dict.fromkeys(name.rpartition("/")[0] for name in self.details)
        first_and_second = [name.split("|") for name in names if "|" in name]
        return tuple((first, second) for first, second in first_and_second)


def shown_arms(study: Study, loss: str | None = None) -> tuple[str, ...]:
    """Return the two arms to compare: what the first family compares with, and its fullest arm.

    The fullest arm is the one that the controls are compared with, or else the last of the family. With a
    loss, the first family counts whose two arms do not both train without it.
    """
    others = [arm for arm in study.arms if arm != study.baseline]
    pairs: list[tuple[str, ...]] = [_ends(study, family) for family in study.families]
    pairs = pairs or [(study.baseline, *others[-1:])]
    if loss is None:
        return pairs[0]
    return next((arms for arms in pairs if any(trains_with(study, arm, loss) for arm in arms)), pairs[0])


def trains_with(study: Study, arm: str, loss: str) -> bool:
    """Whether an arm trains with a loss; one that no arm leaves out is part of all."""
    parameter = components(study).get(loss)
    return parameter is None or has_component(study, arm, parameter)


def _ends(study: Study, family: Family) -> tuple[str, str]:
    full = next((arm for arm in study.controls_against if arm in family.arms), family.arms[-1])
    return family.against, full


def open_views(study: Study, arms: Sequence[str]) -> tuple[View, ...]:
    """Open a trial of each arm, all on the first seed of the main selection that has all of them.

    Raises NothingToShow if no seed has.
    """
    seeds = study.main_seeds
    done = study.trials[(study.trials["phase"] == "ablation") & (study.trials["status"] == "complete")]
    numbers = {
        (arm, seed): trial for arm, seed, trial in zip(done["arm"], done["seed"], done["trial"], strict=True)
    }
    missing = ""
    for seed in seeds:
        if any((arm, seed) not in numbers for arm in arms):
            continue
        try:
            return tuple(open_view(study, int(numbers[arm, seed])) for arm in arms)
        except RecordsError as error:
            missing = f" ({error})"
    raise NothingToShow(
        f"no seed has a finished trial with details of every arm of {', '.join(arms)}{missing}"
    )


def open_view(study: Study, trial: int) -> View:
    """Open a finished trial of the ablation; raises RecordsError if it left no details or predictions."""
    (row,) = study.trials[study.trials["trial"] == trial].to_dict("records")
    details, predictions = study.details(trial), study.predictions(trial)
    ground_truth = read_ground_truth(study)
    known = predictions["label"].isin(ground_truth.classes) & predictions["video"].isin(ground_truth.videos)
    proposals = predictions[known].reset_index(drop=True)
    matches = match_detections(ground_truth, as_detections(proposals, ground_truth), [FOUND_TIOU])
    proposals["found"] = proposals.index.isin(matches[0])
    return View(row["arm"], row["seed"], trial, details, proposals)
