"""ACM-Net (arXiv 2104.02967): localisation from video labels with three kinds of attention."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ftcl.evaluation import LocalizationConfig
from ftcl.recipes.acmnet.config import AcmnetConfig, PretrainConfig, acmnet_defaults
from ftcl.recipes.recipe import Config, Direction, Recipe, SavedModel, StageSpec, accept

if TYPE_CHECKING:
    import torch

    from ftcl.data import VideoDataset
    from ftcl.training.stage import Stage

METRICS: Mapping[str, Direction] = {
    **{f"mAP@0.{tenth}": "max" for tenth in range(1, 10)},
    **{f"mAP@{span}": "max" for span in ("0.1:0.5", "0.3:0.7", "0.1:0.7", "0.1:0.9")},
}
HEADLINE = "mAP@0.1:0.7"


def _build(
    config: Config,
    data: "VideoDataset",
    device: "torch.device",
    seed: int,
    init: "Mapping[str, torch.Tensor] | None",
) -> "Stage":
    from ftcl.recipes.acmnet.stage import AcmnetStage

    return AcmnetStage(config, data, device, seed, init)


def detection_context(data: "VideoDataset", split: str, seed: int) -> Mapping[str, Mapping[str, float]]:
    """Metrics of detections that need no learning: random windows, and windows with the true video labels."""
    from ftcl.recipes.acmnet.inference import context_metrics

    return context_metrics(data, split, seed)


def read_saved_model(path: Path) -> SavedModel:
    """Read a run's checkpoint, or one of the authors."""
    from ftcl.recipes.acmnet.weights import read_model

    return read_model(path)


PRETRAIN = StageSpec("pretrain", "acmnet", ("acmnet", "pretrain"), selects_epoch=False, build=_build)

ACMNET = Recipe(
    name="acmnet",
    version=1,
    title="ACM-Net: action context modelling (arXiv 2104.02967)",
    groups={"acmnet": AcmnetConfig, "localization": LocalizationConfig, "pretrain": PretrainConfig},
    stages=(PRETRAIN,),
    metrics=METRICS,
    headline=HEADLINE,
    defaults=acmnet_defaults,
    check=accept,
    read_model=read_saved_model,
    context=detection_context,
)
