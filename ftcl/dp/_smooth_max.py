"""The smooth maximum γ·logsumexp(v/γ), and the plain maximum that it tends to as γ goes to 0."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def smooth_max(candidates: Sequence[Tensor], gamma: Tensor | None) -> Tensor:
    """Maximum of equally shaped candidates, differentiable any number of times.

    γ·log Σ exp(v/γ), or max v when `gamma` is None; the gradient of a tie then goes to the first candidate.
    """
    if gamma is not None:
        stacked = torch.stack(list(candidates))
        # The result does not depend on the shift, but without it the derivative to γ would be a difference of
        # numbers as large as v/γ.
        shift = stacked.detach().amax(dim=0)
        return shift + gamma * torch.logsumexp((stacked - shift) / gamma, dim=0)
    best = candidates[0]
    for candidate in candidates[1:]:
        best = torch.where(candidate > best, candidate, best)
    return best


def pairwise_max(*, hard: bool) -> Callable[[Tensor, Tensor], Tensor]:
    """The maximum of two tensors: plain, or smooth in units of γ (that is, at γ = 1)."""
    return torch.maximum if hard else torch.logaddexp


def transition_weights(candidates: Sequence[Tensor], *, hard: bool) -> Tensor:
    """Gradient of the maximum to each of its candidates, stacked in front; the weights of a cell add up to 1.

    softmax(v) with v in units of γ, or 1 for the first of the largest candidates when `hard`.
    """
    stacked = torch.stack(list(candidates))
    if not hard:
        return torch.softmax(stacked, dim=0)
    weights = torch.zeros_like(stacked)
    is_free = torch.ones_like(stacked[0], dtype=torch.bool)
    largest = stacked.amax(dim=0)
    for candidate, weight in zip(stacked, weights, strict=True):
        is_first = is_free & (candidate == largest)
        weight.copy_(is_first)
        is_free &= ~is_first
    return weights
