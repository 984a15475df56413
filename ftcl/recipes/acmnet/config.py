"""Configs of ACM-Net; a field's default is the released code's value for THUMOS14."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from ftcl.evaluation import LocalizationConfig
from ftcl.recipes.config import option
from ftcl.recipes.recipe import Config

T = TypeVar("T")


@dataclass(frozen=True)
class AcmnetConfig:
    """The network and its losses, shared by both stages."""

    num_snippets: int = option(750, "snippets sampled from a video", low=2)
    width: int | None = option(None, "channels of the embedding; null: as many as the features have", low=1)
    dropout: float = option(0.7, "probability of every dropout", low=0.0, high=0.99)
    embedding_dropout: bool = option(False, "drop input channels before the embedding (ActivityNet)")
    attention_dropout: bool = option(False, "drop embedding channels before the attention (ActivityNet)")
    topk_instance: int = option(8, "the instance branch averages its top T // this snippets", low=1)
    topk_context: int = option(3, "the context branch averages its top T // this snippets", low=1)
    topk_background: int = option(3, "the background branch averages its top T // this snippets", low=1)
    instance_weight: float = option(1.0, "weight of the instance branch's cross-entropy", low=0.0)
    margin: float = option(50.0, "gap between the branches' feature norms", low=0.0)
    lambda_guide: float = option(2e-3, "weight of the guide term", low=0.0)
    lambda_feature: float = option(5e-5, "weight of the feature term", low=0.0)
    lambda_sparse: float = option(2e-4, "weight of the sparse term", low=0.0)
    sparse_reduction: Literal["sum", "mean"] = option(
        "mean", "over the two branches of the sparse term; mean is the released code"
    )


@dataclass(frozen=True)
class PretrainConfig:
    """Training of ACM-Net with Adam."""

    epochs: int = option(500, "passes over the training videos", low=1)
    learning_rate: float = option(1e-4, "Adam's step size", low=0.0)
    weight_decay: float = option(5e-5, "Adam's L2 penalty", low=0.0)
    batch_size: int = option(16, "videos in a step", low=1)
    log_eps: float = option(1e-45, "added to a probability before its logarithm", low=0.0)


_ACTIVITYNET = AcmnetConfig(
    num_snippets=75,
    embedding_dropout=True,
    attention_dropout=True,
    topk_instance=2,
    topk_context=10,
    topk_background=10,
    instance_weight=5.0,
    lambda_guide=5e-3,
    lambda_sparse=0.0,
)
_WATCH = AcmnetConfig(
    num_snippets=100,
    width=64,
    topk_instance=4,
    margin=20.0,
    lambda_guide=0.015,
    lambda_feature=2e-5,
    lambda_sparse=1.5e-3,
    sparse_reduction="sum",
)
_SYNTHETIC = dataclasses.replace(_WATCH, num_snippets=40, width=32, dropout=0.5, margin=5.0)

ACMNET_PRESETS: Mapping[str, AcmnetConfig] = {
    "thumos14": AcmnetConfig(),
    "acm": AcmnetConfig(),
    "activitynet": _ACTIVITYNET,
    "watch": _WATCH,
    "synthetic": _SYNTHETIC,
}
PRETRAIN_PRESETS: Mapping[str, PretrainConfig] = {
    "thumos14": PretrainConfig(),
    "acm": PretrainConfig(),
    "activitynet": PretrainConfig(weight_decay=1e-3, batch_size=64),
    "watch": PretrainConfig(epochs=60, learning_rate=1e-3),
    "synthetic": PretrainConfig(epochs=8, learning_rate=5e-3, batch_size=8),
}
LOCALIZATION_PRESETS: Mapping[str, LocalizationConfig] = {
    "thumos14": LocalizationConfig(),
    "acm": LocalizationConfig(),
    "activitynet": LocalizationConfig(
        video_score_threshold=0.10,
        cas_thresholds=(0.005, 0.01, 0.015, 0.02),
        attention_thresholds=(0.005, 0.01, 0.015, 0.02),
        outer_margin=0.15,
        attention_weight=0.4,
        video_score_weight=0.25,
        nms_tiou=0.90,
    ),
    "watch": LocalizationConfig(video_score_threshold=0.10),
    "synthetic": LocalizationConfig(),
}


def pick(presets: Mapping[str, T], preset: str) -> T:
    """The values of a preset; ValueError lists the known ones."""
    if preset not in presets:
        raise ValueError(f"no values for the preset {preset!r}; known are: {', '.join(presets)}")
    return presets[preset]


def acmnet_defaults(preset: str) -> Config:
    """Config groups of the ACM-Net recipe for the data's preset."""
    return {
        "acmnet": pick(ACMNET_PRESETS, preset),
        "localization": pick(LOCALIZATION_PRESETS, preset),
        "pretrain": pick(PRETRAIN_PRESETS, preset),
    }
