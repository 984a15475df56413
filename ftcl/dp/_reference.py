"""What the plain-loop implementations share: a table as nested lists of one value per item.

They are written to be read and to be differentiated any number of times, not to be fast.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

Table = list[list[Tensor]]

# Stands for +∞ in tables of costs: with a true one, derivatives would be NaN.
UNREACHABLE = 1e30


def bordered_table(like_BNM: Tensor, border: float, corner: float) -> Table:
    """Rows 0..N and columns 0..M; row 0 and column 0 are the border, the rest is to be filled."""
    batch, num_rows, num_columns = like_BNM.shape
    table = [[like_BNM.new_full((batch,), border)] * (num_columns + 1) for _ in range(num_rows + 1)]
    table[0][0] = like_BNM.new_full((batch,), corner)
    return table


def end_of_table(table: Table, lengths_B2: Tensor | None) -> Tensor:
    """The value of each item's last cell."""
    if lengths_B2 is None:
        return table[-1][-1]
    stacked = torch.stack([torch.stack(row) for row in table])
    item_B = torch.arange(len(lengths_B2), device=lengths_B2.device)
    row_B, column_B = lengths_B2.long().unbind(1)
    return stacked[row_B, column_B, item_B]


def smooth_max(candidates: Sequence[Tensor], gamma_B: Tensor | None) -> Tensor:
    """γ·log Σ exp(v/γ), or max v when `gamma_B` is None; the gradient of a tie then goes to the first."""
    if gamma_B is not None:
        stacked = torch.stack(list(candidates))
        # The result does not depend on the shift, but without it the derivative to γ would be a difference of
        # numbers as large as v/γ.
        shift_B = stacked.detach().amax(dim=0)
        return shift_B + gamma_B * torch.logsumexp((stacked - shift_B) / gamma_B, dim=0)
    best_B = candidates[0]
    for candidate_B in candidates[1:]:
        best_B = torch.where(candidate_B > best_B, candidate_B, best_B)
    return best_B


def smooth_min(candidates: Sequence[Tensor], gamma_B: Tensor | None) -> Tensor:
    """−γ·log Σ exp(−v/γ), or min v when `gamma_B` is None."""
    return -smooth_max([-candidate_B for candidate_B in candidates], gamma_B)


def softmin_mean(candidates: Sequence[Tensor], gamma_B: Tensor | None) -> Tensor:
    """Σ softmax(−v/γ)·v, or min v when `gamma_B` is None."""
    if gamma_B is None:
        return smooth_min(candidates, None)
    stacked = torch.stack(list(candidates))
    # As in smooth_max: the same result, and no difference of large numbers in the derivative to γ.
    shift_B = stacked.detach().amin(dim=0)
    above = stacked - shift_B
    return shift_B + (torch.softmax(-above / gamma_B, dim=0) * above).sum(dim=0)
