"""Terms on the attention and on the branch features (ACM-Net, arXiv 2104.02967).

Shapes: B videos, T snippets, E embedding width.
"""

from typing import Literal

import torch
from torch import Tensor


def guide_term(background_BT: Tensor, instance_attention_BT: Tensor) -> Tensor:
    """mean_B sum_t |1 - p_t - stopgrad(a_t)|: the background score p is drawn towards 1 - attention."""
    return (1 - background_BT - instance_attention_BT.detach()).abs().sum(1).mean()


def feature_term(instance_BE: Tensor, context_BE: Tensor, background_BE: Tensor, margin: float) -> Tensor:
    """mean_B (relu(m - |i| + |c|) + relu(m - |c| + |b|) + |b|)^2: norms ordered by the margin m."""
    norms_3B = torch.linalg.vector_norm(torch.stack((instance_BE, context_BE, background_BE)), dim=2)
    gaps_2B = (margin - norms_3B[:2] + norms_3B[1:]).clamp(min=0)
    return (gaps_2B[0] + gaps_2B[1] + norms_3B[2]).square().mean()


def sparse_term(
    instance_attention_BT: Tensor, context_attention_BT: Tensor, reduction: Literal["sum", "mean"]
) -> Tensor:
    """mean_B sum_t (a_instance + a_context), or with reduction "mean" half of that.

    The released code of ACM-Net and of FTCL averages over the videos and the two branches together: "mean".
    """
    summed = (instance_attention_BT + context_attention_BT).sum(1).mean()
    return summed if reduction == "sum" else summed / 2
