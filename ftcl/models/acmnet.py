"""ACM-Net: instance, context and background attention over snippet features (arXiv 2104.02967).

Shapes: B videos, T snippets, D feature channels, E embedding width, C action classes (C1 = C + 1 with the
background last), K = 3 attention branches in the order of `BRANCHES`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BRANCHES = ("instance", "context", "background")


class DropoutMasks(NamedTuple):
    """Multiplicative dropout masks, 0 or 1/(1 - p); None where the network has no dropout."""

    snippet_BT1: Tensor  # drops whole snippets of the embedding that is classified
    embedding_BTE: Tensor  # drops single channels of it
    input_BTD: Tensor | None  # before the embedding (ActivityNet)
    attention_BTE: Tensor | None  # before the attention (ActivityNet)


class ACMNetOutput(NamedTuple):
    """What one forward pass computes; scores are probabilities, `cas_BTC1` holds logits."""

    embedding_BTE: Tensor  # before any dropout: the feature terms and FTCL's candidates use it
    attention_BTK: Tensor
    cas_BTC1: Tensor
    instance_cas_BTC1: Tensor  # softmax over classes of cas * instance attention
    instance_scores_BC1: Tensor
    context_scores_BC1: Tensor
    background_scores_BC1: Tensor
    instance_feature_BE: Tensor
    context_feature_BE: Tensor
    background_feature_BE: Tensor

    def branch_cas(self, branch: str) -> Tensor:
        """softmax_c(cas[t, c] * a_branch[t]), (B, T, C1); `branch` is one of `BRANCHES`."""
        attention_BT1 = self.attention_BTK[:, :, BRANCHES.index(branch), None]
        return torch.softmax(self.cas_BTC1 * attention_BT1, dim=2)


class ACMNet(nn.Module):
    """e = ReLU(conv3(x)); a = softmax(conv1(e)); cas = linear(dropout(e)); one video score a branch.

    Parameter names are those of the authors' checkpoints. `topk_divisors` are (instance, context, background)
    divisors r of T: a branch averages its max(T // r, 1) highest values. `fsd_width` adds FTCL's linear layer
    `feature_trans` (CVPR 2022, arXiv 2203.16800) from E to that many channels.
    """

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        width: int,
        topk_divisors: Sequence[int],
        fsd_width: int | None = None,
    ) -> None:
        super().__init__()
        self.topk_divisors = tuple(topk_divisors)
        # Built without values: `initialise` draws them from a generator, the constructors would not.
        with torch.device("meta"):
            self.feature_embedding = nn.Sequential(
                nn.Conv1d(num_features, width, kernel_size=3, padding=1), nn.ReLU()
            )
            self.att_branch = nn.Conv1d(width, len(BRANCHES), kernel_size=1)
            self.snippet_cls = nn.Linear(width, num_classes + 1)
            self.feature_trans = None if fsd_width is None else nn.Linear(width, fsd_width)
        self.to_empty(device="cpu")

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        """Draw every weight and bias from U(-b, b), b = 1 / sqrt(fan in): PyTorch's default for these layers.

        `feature_trans` comes last, so a network without it draws the same values for the rest.
        """
        for layer in (self.feature_embedding[0], self.att_branch, self.snippet_cls, self.feature_trans):
            if isinstance(layer, nn.Conv1d | nn.Linear):
                bound = 1.0 / math.sqrt(layer.weight[0].numel())
                for parameter in (layer.weight, layer.bias):
                    assert parameter is not None
                    parameter.uniform_(-bound, bound, generator=generator)

    def forward(self, x_BTD: Tensor, masks: DropoutMasks | None = None) -> ACMNetOutput:
        """Run the network; without masks, as in evaluation, nothing is dropped."""
        if masks is not None and masks.input_BTD is not None:
            x_BTD = x_BTD * masks.input_BTD
        embedding_BTE = self.feature_embedding(x_BTD.transpose(1, 2)).transpose(1, 2)

        attended_BTE = embedding_BTE
        classified_BTE = embedding_BTE
        if masks is not None:
            if masks.attention_BTE is not None:
                attended_BTE = embedding_BTE * masks.attention_BTE
            classified_BTE = embedding_BTE * masks.snippet_BT1 * masks.embedding_BTE

        attention_logits_BTK = F.linear(attended_BTE, self.att_branch.weight[:, :, 0], self.att_branch.bias)
        attention_BTK = torch.softmax(attention_logits_BTK, dim=2)
        cas_BTC1 = self.snippet_cls(classified_BTE)

        num_snippets = x_BTD.shape[1]
        counts = [max(num_snippets // divisor, 1) for divisor in self.topk_divisors]
        branch_cas_BTKC1 = cas_BTC1[:, :, None, :] * attention_BTK[..., None]
        scores = [
            torch.softmax(branch_cas_BTKC1[:, :, k].topk(count, dim=1).values.mean(1), dim=1)
            for k, count in enumerate(counts)
        ]
        weights_BKT = _topk_weights(attention_BTK.detach(), counts)
        features_BKE = weights_BKT @ embedding_BTE
        return ACMNetOutput(
            embedding_BTE,
            attention_BTK,
            cas_BTC1,
            torch.softmax(branch_cas_BTKC1[:, :, 0], dim=2),
            *scores,
            *features_BKE.unbind(1),
        )


def _topk_weights(attention_BTK: Tensor, counts: Sequence[int]) -> Tensor:
    """(B, K, T): 1 / n at the n snippets of highest attention of each branch, 0 elsewhere.

    A product with it averages the chosen rows, and its backward pass needs no scatter.
    """
    order_BKT = attention_BTK.transpose(1, 2).argsort(dim=2, descending=True, stable=True)
    rank_T = torch.arange(order_BKT.shape[2], device=order_BKT.device)
    counts_K1 = torch.tensor(counts, device=order_BKT.device)[:, None]
    by_rank_KT = (rank_T < counts_K1).to(attention_BTK.dtype) / counts_K1
    return torch.zeros_like(order_BKT, dtype=attention_BTK.dtype).scatter_(
        2, order_BKT, by_rank_KT.expand(order_BKT.shape)
    )


def draw_dropout_masks(
    shape_BTD: tuple[int, int, int],
    width: int,
    *,
    dropout: float,
    generator: torch.Generator,
    input_dropout: bool = False,
    attention_dropout: bool = False,
) -> DropoutMasks:
    """Draw one step's masks on the generator's device, each entry kept with probability 1 - `dropout`."""
    num_videos, num_snippets, num_features = shape_BTD

    def draw(channels: int) -> Tensor:
        mask = torch.empty(num_videos, num_snippets, channels, device=generator.device)
        return mask.bernoulli_(1.0 - dropout, generator=generator).div_(1.0 - dropout)

    return DropoutMasks(
        snippet_BT1=draw(1),
        embedding_BTE=draw(width),
        input_BTD=draw(num_features) if input_dropout else None,
        attention_BTE=draw(width) if attention_dropout else None,
    )
