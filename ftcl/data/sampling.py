"""Which snippets of a video a network sees.

Source: ACM-Net (arXiv 2104.02967), random sampling in training and uniform sampling in evaluation.
"""

import torch
from torch import Tensor


def train_indices(num_available: int, num_snippets: int, generator: torch.Generator) -> Tensor:
    """Draw `num_snippets` sorted indices (int64) of a video with `num_available` snippets, at random.

    With T available and S wanted: T < S draws S indices with replacement; T = S takes all; T > S draws index
    i < S - 1 uniformly from floor(i T / S) ... floor((i + 1) T / S), both included, and the last uniformly
    from its predecessor ... T - 1. Raises ValueError unless both counts are positive.
    """
    _require_positive(num_available, num_snippets)
    if num_available < num_snippets:
        drawn = torch.randint(num_available, (num_snippets,), generator=generator)
        return drawn.sort().values
    if num_available == num_snippets:
        return torch.arange(num_available)
    bounds = torch.arange(num_snippets) * num_available // num_snippets
    uniform = torch.rand(num_snippets, generator=generator, dtype=torch.float64)
    count = bounds[1:] - bounds[:-1] + 1
    indices = bounds.clone()
    indices[:-1] += (uniform[:-1] * count).long()
    first_of_last = indices[-2] if num_snippets > 1 else indices.new_zeros(())
    indices[-1] = first_of_last + (uniform[-1] * (num_available - first_of_last)).long()
    return indices


def test_indices(num_available: int, num_snippets: int) -> Tensor:
    """Return the indices (int64) that evaluation uses: all of T <= S snippets, else floor(i (T / S)), i < S.

    T / S is rounded to float64 first. A single available snippet is taken twice. Raises ValueError unless
    both counts are positive.
    """
    _require_positive(num_available, num_snippets)
    if num_available == 1:
        return torch.zeros(2, dtype=torch.long)
    if num_available <= num_snippets:
        return torch.arange(num_available)
    # The released code multiplies by the rounded ratio: where i T / S is whole, that can end one below it.
    ratio = num_available / num_snippets
    return (torch.arange(num_snippets, dtype=torch.float64) * ratio).floor().long()


def _require_positive(num_available: int, num_snippets: int) -> None:
    if num_available < 1 or num_snippets < 1:
        raise ValueError(
            f"cannot sample {num_snippets} snippets from {num_available}: both counts must be at least 1"
        )
