"""Config of FTCL's fine-tuning; a field's default is the released code's value for THUMOS14."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ftcl.recipes.acmnet.config import AcmnetConfig, acmnet_defaults, pick
from ftcl.recipes.config import option
from ftcl.recipes.recipe import Config

if TYPE_CHECKING:
    from ftcl.data import VideoDataset

# Below it, similarities divided by gamma lose every digit that tells them apart.
_MIN_GAMMA = 1e-6


@dataclass(frozen=True)
class FinetuneConfig:
    """Training on pairs of videos with Adam: ACM-Net's loss + lambda_fsd * FSD + lambda_lcs * LCS."""

    epochs: int = option(25, "passes over the pairs; 0 evaluates the pretrained model", low=0)
    learning_rate: float = option(1e-4, "Adam's step size", low=0.0)
    weight_decay: float = option(5e-5, "Adam's L2 penalty", low=0.0)
    batch_size: int = option(16, "pairs in a step", low=1)
    log_eps: float = option(1e-10, "added to a probability before its logarithm", low=0.0)
    lambda_fsd: float = option(0.8, "weight of the fine-grained sequence distance; 0 skips it", low=0.0)
    lambda_lcs: float = option(0.1, "weight of the longest common subsequence; 0 skips it", low=0.0)
    fsd_gamma: float = option(0.1, "smooth-max temperature of FSD; 0 is the hard maximum", low=0.0)
    lcs_tau: float = option(0.92, "snippets match above this cosine similarity", low=-1.0, high=1.0)
    lcs_gamma: float = option(0.0, "smooth-max temperature of LCS; 0 is the hard maximum", low=0.0)
    fsd_len: int = option(5, "candidate snippets of FSD", low=1)
    lcs_len: int = option(30, "candidate snippets of LCS", low=1)
    fsd_width: int | None = option(None, "outputs of FSD's linear layer; null: half the embedding", low=2)
    fsd_background: Literal["next_ranked", "least_attended"] = option(
        "next_ranked", "FSD's background: the snippets ranked after the action (released code) or the last"
    )
    candidate_order: Literal["temporal", "shuffled"] = option(
        "temporal", "order of the candidates; shuffled is a control without temporal order"
    )
    alignment: Literal["dp", "mean"] = option(
        "dp", "dynamic programming, or as a control candidates * mean similarity"
    )
    pair_labels: Literal["true", "random"] = option(
        "true", "pairs by video labels, or as a control any two videos"
    )
    pair_sampling: Literal["epoch", "once"] = option(
        "epoch", "draw pairs and snippets anew every epoch, or once for the run (released code)"
    )
    num_pairs: int | None = option(
        None, "positive pairs in an epoch, and as many negative; null: all positive pairs", low=1
    )


FINETUNE_PRESETS: Mapping[str, FinetuneConfig] = {
    "thumos14": FinetuneConfig(),
    "acm": FinetuneConfig(),
    "activitynet": FinetuneConfig(weight_decay=1e-3),
    "watch": FinetuneConfig(epochs=6, learning_rate=5e-4, lambda_lcs=0.3, lcs_tau=0.8, num_pairs=192),
    "synthetic": FinetuneConfig(
        epochs=3, learning_rate=1e-3, batch_size=8, lambda_lcs=0.3, lcs_tau=0.8, lcs_len=12, num_pairs=16
    ),
}


def ftcl_defaults(preset: str) -> Config:
    """Config groups of the FTCL recipe for the data's preset."""
    return {**acmnet_defaults(preset), "finetune": pick(FINETUNE_PRESETS, preset)}


def check_finetune(config: Config, data: "VideoDataset") -> None:
    """Raise ValueError for fine-tuning that would fail only after pretraining; it names the parameter."""
    model: AcmnetConfig = config["acmnet"]
    options: FinetuneConfig = config["finetune"]
    for name, needed in (("fsd_len", 2 * options.fsd_len), ("lcs_len", options.lcs_len)):
        if needed > model.num_snippets:
            raise ValueError(
                f"finetune.{name} = {getattr(options, name)} needs {needed} snippets of a video, but "
                f"acmnet.num_snippets is {model.num_snippets}; lower the one or raise the other"
            )
    for name in ("fsd_gamma", "lcs_gamma"):
        gamma = getattr(options, name)
        if 0 < gamma < _MIN_GAMMA:
            raise ValueError(
                f"finetune.{name} = {gamma:g} is too small; set 0 (hard maximum) or at least {_MIN_GAMMA:g}"
            )
    width = data.num_features if model.width is None else model.width
    if options.fsd_width is None and width < 4:
        raise ValueError(
            f"finetune.fsd_width = null is half of acmnet.width = {width}, but FSD needs two: "
            "set finetune.fsd_width to 2 or more"
        )
