"""Candidate snippets of a video, chosen by attention, for FTCL's sequence comparisons.

Shapes: B videos, T snippets, L candidates, E channels.
"""

import torch
from torch import Tensor


def rank_by_attention(attention_BT: Tensor) -> Tensor:
    """Snippet indices by descending attention, (B, T); equal attentions keep their temporal order."""
    return attention_BT.detach().argsort(dim=1, descending=True, stable=True)


def select_candidates(
    ranking_BT: Tensor, start: int, stop: int, *, shuffle: torch.Generator | None = None
) -> Tensor:
    """Snippet indices of the ranks start..stop-1, back in temporal order, (B, L).

    With `shuffle` (the control without temporal order) every row is permuted at random instead.
    """
    chosen_BL = ranking_BT[:, start:stop]
    if shuffle is None:
        return chosen_BL.sort(dim=1).values
    keys_BL = torch.rand(chosen_BL.shape, generator=shuffle, device=chosen_BL.device)
    return chosen_BL.gather(1, keys_BL.argsort(dim=1))


def gather_rows(x_BTE: Tensor, index_BL: Tensor) -> Tensor:
    """x[b, index[b, l]], (B, L, E); the gradient to x is laid out in memory like x."""
    x_BET, index_BEL = x_BTE.mT, index_BL[:, None].expand(-1, x_BTE.shape[2], -1)
    if x_BET.is_contiguous():
        # Else its gradient would be laid out the other way, and adding it to others take many times longer.
        return x_BET.gather(2, index_BEL).mT
    return x_BTE.gather(1, index_BEL.mT)
