"""Video-level classification of the three attention branches (ACM-Net, arXiv 2104.02967).

Shapes: B videos, C action classes, C1 = C + 1 with the background last.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class BranchTargets(NamedTuple):
    """Class distributions that the branches should predict, each row summing to 1."""

    instance_BC1: Tensor
    context_BC1: Tensor
    background_BC1: Tensor


def branch_targets(labels_BC: Tensor) -> BranchTargets:
    """[y, 0], [y, 1] and [0, 1], each divided by its sum, for multi-hot labels y with at least one 1."""
    instance_BC1 = F.pad(labels_BC, (0, 1), value=0.0)
    context_BC1 = F.pad(labels_BC, (0, 1), value=1.0)
    background_BC1 = F.pad(torch.zeros_like(labels_BC), (0, 1), value=1.0)
    return BranchTargets(
        instance_BC1 / instance_BC1.sum(1, keepdim=True),
        context_BC1 / context_BC1.sum(1, keepdim=True),
        background_BC1,
    )


def cross_entropy(scores_BC1: Tensor, target_BC1: Tensor, eps: float) -> Tensor:
    """-mean_B sum_c target * log(scores + eps), for scores that are already probabilities."""
    return -(torch.log(scores_BC1 + eps) * target_BC1).sum(1).mean()
