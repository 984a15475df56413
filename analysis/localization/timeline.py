"""What a trial says of a video along its time: annotations, proposals, activation, attention."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.load import Study
from analysis.localization.evaluation import class_names
from analysis.localization.view import View
from study.records import RecordsError

ATTENTION = ("instance", "context", "background")
"""The branches of ACM-Net's attention, in the order of its columns."""


@dataclass(frozen=True, eq=False)
class Timeline:
    """A video as a trial sees it; T snippets, the background's activation left out."""

    video: str
    arm: str
    seed: int
    end_s: float
    segments: pd.DataFrame  # annotated: label, start_s, end_s
    proposals: pd.DataFrame  # label, start_s, end_s, score, found; surest first
    time_s: np.ndarray  # (T,) where localisation puts each snippet: at its start, and straight lines between
    activation: pd.DataFrame  # (T, classes): softmax of the instance branch; no columns if they have no names
    attention: pd.DataFrame  # (T, branches)

    @property
    def labels(self) -> set[str]:
        """The classes that are annotated or proposed."""
        return {*self.segments["label"], *self.proposals["label"]}


def timeline(study: Study, view: View, video: str) -> Timeline:
    """Return a video's timeline in a trial; raises RecordsError if the records have none of this video."""
    annotated = study.ground_truth().get(video)
    if annotated is None or f"{video}/cas" not in view.details:
        raise RecordsError(
            f"trial {view.trial} has no details of video {video}; it has those of {', '.join(view.videos)}"
        )
    cas = view.details[f"{video}/cas"]
    segments = pd.DataFrame(
        [(item["label"], *item["segment"]) for item in annotated["annotations"]],
        columns=["label", "start_s", "end_s"],
    )
    proposals = view.proposals[view.proposals["video"] == video].sort_values(
        "score", ascending=False, kind="stable"
    )
    last_s = max([0.0, *segments["end_s"], *proposals["end_s"]])
    # Where the records do not tell what the rows cover, they are spread over the video.
    covered_s = float(view.details.get(f"{video}/covered_s", annotated.get("duration", last_s)))
    names = class_names(study)
    is_named = len(names) == cas.shape[1] - 1
    activation = pd.DataFrame(cas[:, :-1] if is_named else None, range(len(cas)), names if is_named else [])
    attention = view.details[f"{video}/attention"]
    return Timeline(
        video=video,
        arm=view.arm,
        seed=view.seed,
        end_s=max(covered_s, last_s),
        segments=segments,
        proposals=proposals,
        time_s=np.arange(len(cas)) * covered_s / len(cas),
        activation=activation,
        attention=pd.DataFrame(attention, columns=list(ATTENTION[: attention.shape[1]])),
    )
