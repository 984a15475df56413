"""From a network to detections, metrics and the arrays that figures are drawn from.

Shapes: B videos, T snippets, C action classes, C1 = C + 1 with the background last, K = 3 attention branches,
E embedding width.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ftcl.data import VideoDataset
from ftcl.evaluation import (
    TIOU_THRESHOLDS,
    Detections,
    GroundTruth,
    LocalizationConfig,
    VideoDetections,
    detection_map,
    localize,
    metrics,
    oracle_label_windows,
    random_windows,
)
from ftcl.models import ACMNet
from ftcl.training.snippets import EvaluationSnippets
from ftcl.training.stage import Evaluation, NonFiniteLoss

# ActivityNet's papers average over 0.5:0.95; the tenths below serve the metrics that all data sets share.
_ACTIVITYNET_THRESHOLDS = np.concatenate((TIOU_THRESHOLDS[:4], np.arange(0.5, 1.0, 0.05)))


class VideoOutput(NamedTuple):
    """Network outputs of one video that its details are made from."""

    embedding_TE: Tensor
    attention_TK: Tensor


PairDetails = Callable[[ACMNet, VideoOutput, VideoOutput], dict[str, np.ndarray]]


class Evaluator:
    """Evaluates networks on the splits of a data set; the sampled snippets of a split are kept if small."""

    def __init__(
        self, data: VideoDataset, localization: LocalizationConfig, num_snippets: int, device: torch.device
    ) -> None:
        self._data = data
        self._localization = localization
        self._num_snippets = num_snippets
        self._device = device
        self._snippets: dict[str, EvaluationSnippets] = {}
        self._ground_truth: dict[str, GroundTruth] = {}

    @torch.no_grad()
    def evaluate(
        self,
        network: ACMNet,
        split: str,
        *,
        epoch: int,
        detail_videos: Sequence[str] = (),
        pair_details: PairDetails | None = None,
    ) -> Evaluation:
        """Localise the actions of `split` and score them.

        `details` has, for every video of `detail_videos`, `cas` (T, C1), the softmax of the instance branch,
        `attention` (T, 3), and `covered_s` (), the seconds that the T rows share evenly; and under "a|b" what
        `pair_details` makes of consecutive detail videos that share a class. Raises ValueError for an unknown
        video, NonFiniteLoss (naming `epoch`) for NaN outputs.
        """
        snippets, ground_truth = self._split(split)
        unknown = [name for name in detail_videos if name not in snippets.names]
        if unknown:
            raise ValueError(f"video {unknown[0]!r} is not in the {split} split")
        found: dict[str, VideoDetections] = {}
        details: dict[str, dict[str, np.ndarray]] = {}
        outputs: dict[str, VideoOutput] = {}
        for names, x_BTD in snippets:
            output = network(x_BTD)
            cas_BTC1 = output.instance_cas_BTC1.cpu().numpy()
            attention_BTK = output.attention_BTK.cpu().numpy()
            scores_BC = output.instance_scores_BC1[:, :-1].cpu().numpy()
            if not (np.isfinite(cas_BTC1).all() and np.isfinite(scores_BC).all()):
                raise NonFiniteLoss(epoch, "network output")
            for b, name in enumerate(names):
                found[name] = localize(
                    cas_BTC1[b, :, :-1],
                    attention_BTK[b, :, 0],
                    scores_BC[b],
                    num_snippets=self._data.videos[name].num_snippets,
                    snippet_s=self._data.snippet_s,
                    config=self._localization,
                )
                if name in detail_videos:
                    details[name] = {
                        "cas": cas_BTC1[b].copy(),
                        "attention": attention_BTK[b].copy(),
                        "covered_s": np.array(self._data.videos[name].num_snippets * self._data.snippet_s),
                    }
                    outputs[name] = VideoOutput(output.embedding_BTE[b], output.attention_BTK[b])
        detections = Detections.from_videos(
            snippets.names, self._data.classes, [found[name] for name in snippets.names]
        )
        if pair_details is not None:
            for first, second in itertools.pairwise(detail_videos):
                if set(self._data.videos[first].labels) & set(self._data.videos[second].labels):
                    details[f"{first}|{second}"] = pair_details(network, outputs[first], outputs[second])
        return Evaluation(score(ground_truth, detections, self._data.preset), detections, details)

    def _split(self, split: str) -> tuple[EvaluationSnippets, GroundTruth]:
        if split not in self._snippets:
            if not self._data.splits[split]:
                raise ValueError(f"the {split} split of {self._data.spec} is empty; evaluate another")
            videos = self._data.ground_truth(split)
            self._ground_truth[split] = GroundTruth.from_videos(videos, self._data.classes)
            self._snippets[split] = EvaluationSnippets(self._data, split, self._num_snippets, self._device)
        return self._snippets[split], self._ground_truth[split]


def score(ground_truth: GroundTruth, detections: Detections, preset: str) -> dict[str, float]:
    """mAP in percent at the thresholds that are usual for the data's preset."""
    thresholds = _ACTIVITYNET_THRESHOLDS if preset == "activitynet" else TIOU_THRESHOLDS
    return metrics(detection_map(ground_truth, detections, thresholds))


def context_metrics(data: VideoDataset, split: str, seed: int) -> dict[str, dict[str, float]]:
    """Metrics of windows at random and of windows with the true video labels, both with random scores.

    The windows are as long as the quartiles of the training segments.
    """
    videos = data.ground_truth(split)
    ground_truth = GroundTruth.from_videos(videos, data.classes)
    names, durations_s = [video.name for video in videos], [video.duration_s for video in videos]
    lengths_s = [
        segment.end_s - segment.start_s for video in data.ground_truth("train") for segment in video.segments
    ]
    windows_s = np.quantile(lengths_s, (0.25, 0.5, 0.75)).tolist()
    rng = np.random.default_rng(seed)
    found = {
        "random windows": random_windows(
            names, durations_s, data.classes, window_lengths_s=windows_s, generator=rng
        ),
        "oracle-label windows": oracle_label_windows(
            names,
            durations_s,
            [video.labels for video in videos],
            data.classes,
            window_lengths_s=windows_s,
            generator=rng,
        ),
    }
    return {name: score(ground_truth, detections, data.preset) for name, detections in found.items()}
