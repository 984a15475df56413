"""FTCL (CVPR 2022, arXiv 2203.16800): ACM-Net fine-tuned by comparing pairs of videos as sequences."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ftcl.recipes.acmnet import ACMNET, PRETRAIN
from ftcl.recipes.ftcl.config import FinetuneConfig, check_finetune, ftcl_defaults
from ftcl.recipes.recipe import Config, Recipe, StageSpec

if TYPE_CHECKING:
    import torch

    from ftcl.data import VideoDataset
    from ftcl.training.stage import Stage


def _build(
    config: Config,
    data: "VideoDataset",
    device: "torch.device",
    seed: int,
    init: "Mapping[str, torch.Tensor] | None",
) -> "Stage":
    from ftcl.recipes.ftcl.stage import FtclStage

    return FtclStage(config, data, device, seed, init)


FINETUNE = StageSpec(
    "finetune", "ftcl", ("acmnet", "localization", "finetune"), selects_epoch=True, build=_build
)

FTCL = Recipe(
    name="ftcl",
    version=1,
    title="FTCL: fine-grained temporal contrastive learning (arXiv 2203.16800)",
    groups={**ACMNET.groups, "finetune": FinetuneConfig},
    stages=(PRETRAIN, FINETUNE),
    metrics=ACMNET.metrics,
    headline=ACMNET.headline,
    defaults=ftcl_defaults,
    check=check_finetune,
    read_model=ACMNET.read_model,
    context=ACMNET.context,
)
