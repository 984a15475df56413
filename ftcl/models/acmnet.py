"""ACM-Net: instance, context and background attention over snippet features (arXiv 2104.02967).

Shapes: B videos, T snippets, D feature channels, E embedding width, C action classes (C1 = C + 1 with the
background last), K = 3 attention branches in the order of `BRANCHES`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

BRANCHES = ("instance", "context", "background")


class DropoutMasks(NamedTuple):
    """Multiplicative dropout masks, 0 or 1/(1 - p); None where the network has no dropout."""

    snippet_B1T: Tensor  # drops whole snippets of the embedding that is classified
    embedding_BET: Tensor  # drops single channels of it
    input_BDT: Tensor | None  # before the embedding (ActivityNet)
    attention_BET: Tensor | None  # before the attention (ActivityNet)


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
        x_BDT = x_BTD.transpose(1, 2)
        if masks is not None and masks.input_BDT is not None:
            x_BDT = x_BDT * masks.input_BDT
        embedding_BET = self.feature_embedding(x_BDT)
        attended_BET = classified_BET = embedding_BET
        if masks is not None:
            if masks.attention_BET is not None:
                attended_BET = embedding_BET * masks.attention_BET
            classified_BET = embedding_BET * masks.snippet_B1T * masks.embedding_BET

        # Time is the last axis in here: the softmax over a few classes and the top-k over time are several
        # times faster in that layout.
        attention_BKT = torch.softmax(
            _snippetwise(attended_BET, self.att_branch.weight[:, :, 0], self.att_branch.bias), dim=1
        )
        cas_BC1T = _snippetwise(classified_BET, self.snippet_cls.weight, self.snippet_cls.bias)
        branch_cas_BKC1T = attention_BKT[:, :, None] * cas_BC1T[:, None]

        num_snippets = x_BTD.shape[1]
        counts = [max(num_snippets // divisor, 1) for divisor in self.topk_divisors]
        scores = [
            torch.softmax(branch_cas_BKC1T[:, k].topk(count, dim=2, sorted=False).values.mean(2), dim=1)
            for k, count in enumerate(counts)
        ]
        embedding_BTE = embedding_BET.transpose(1, 2)
        features_BKE = _topk_weights(attention_BKT.detach(), counts) @ embedding_BTE
        return ACMNetOutput(
            embedding_BTE,
            attention_BKT.transpose(1, 2),
            cas_BC1T.transpose(1, 2),
            torch.softmax(branch_cas_BKC1T[:, 0], dim=1).transpose(1, 2),
            *scores,
            *features_BKE.unbind(1),
        )


def _snippetwise(x_BET: Tensor, weight_OE: Tensor, bias_O: Tensor | None) -> Tensor:
    """The same linear map at every snippet, (B, O, T); for few outputs quicker than a convolution."""
    assert bias_O is not None
    return torch.einsum("oe,bet->bot", weight_OE, x_BET) + bias_O[:, None]


def _topk_weights(attention_BKT: Tensor, counts: Sequence[int]) -> Tensor:
    """(B, K, T): 1 / n at the n snippets of highest attention of each branch, 0 elsewhere.

    A product with it averages the chosen rows, and its backward pass needs no scatter.
    """
    order_BKT = attention_BKT.argsort(dim=2, descending=True, stable=True)
    by_rank_KT = attention_BKT.new_zeros(order_BKT.shape[1:])
    for k, count in enumerate(counts):
        by_rank_KT[k, :count] = 1 / count
    return torch.zeros_like(attention_BKT).scatter_(2, order_BKT, by_rank_KT.expand(order_BKT.shape))


def draw_dropout_masks(
    shape_BTD: tuple[int, int, int],
    width: int,
    *,
    dropout: float,
    generator: torch.Generator,
    embedding_dropout: bool = False,
    attention_dropout: bool = False,
) -> DropoutMasks:
    """Draw one step's masks on the generator's device, each entry kept with probability 1 - `dropout`."""
    num_videos, num_snippets, num_features = shape_BTD
    kept = 1.0 - dropout

    def draw(channels: int) -> Tensor:
        uniform = torch.rand(num_videos, channels, num_snippets, generator=generator, device=generator.device)
        return (uniform < kept) * (1.0 / kept)

    return DropoutMasks(
        snippet_B1T=draw(1),
        embedding_BET=draw(width),
        input_BDT=draw(num_features) if embedding_dropout else None,
        attention_BET=draw(width) if attention_dropout else None,
    )
