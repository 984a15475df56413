"""Fine-grained sequence distance (FSD): the best-scoring alignment of two sequences with matches and gaps.

B items, N rows, M columns, K diagonals and L lanes (see _diagonals).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ftcl.dp import _arguments
from ftcl.dp._diagonals import Diagonals, first_derivative_only
from ftcl.dp._reference import end_of_table, zero_table
from ftcl.dp._smooth_max import pairwise_max, smooth_max, transition_weights


def fsd(
    match_BNM: Tensor,
    gap_BNM: Tensor,
    gamma: float | Tensor,
    lengths: Tensor | None = None,
    *,
    backend: str | None = None,
    check: bool = False,
) -> Tensor:
    """Score of the best alignment under a match and a gap similarity, one value per item.

    C[i,j] = m[i,j] + smax_γ(C[i−1,j−1], g[i,j] + C[i−1,j], g[i,j] + C[i,j−1]), with C[i,0] = C[0,j] = 0,
    smax_γ(v) = γ·log Σ exp(v/γ) and value C[N,M].

    `match_BNM`, `gap_BNM`: (B, N, M), float64, float32 or bfloat16 (computed and returned in float32).
    `gamma`: smooth-max temperature γ in units of the similarities; a number, or a tensor () or (B,) that gets
    a gradient. The number 0 takes the plain maximum, whose ties go to the diagonal, then up, then left; a
    tensor must be positive.
    `lengths`: (B, 2) integers, rows and columns of each item; None for all. What lies beyond has no effect.
    `backend`: "torch" (default; first derivatives only) or "reference" (plain loops, any derivative).
    `check`: look at the contents of tensors on a device too; on the CPU that is always done.
    Raises ValueError naming the argument that is malformed.

    Source: Gao, Chen and Xu, "Fine-grained Temporal Contrastive Learning for Weakly-supervised Temporal
    Action Localization", CVPR 2022, arXiv:2203.16800.
    """
    compute = _arguments.choose_backend(BACKENDS, backend)
    named = {"match_BNM": match_BNM, "gap_BNM": gap_BNM}
    (match_BNM, gap_BNM), lengths_B2 = _arguments.tables(named, lengths, check)
    gamma_B = _arguments.gamma_per_item(gamma, match_BNM, check)
    return compute(match_BNM, gap_BNM, gamma_B, lengths_B2)


def _reference(
    match_BNM: Tensor, gap_BNM: Tensor, gamma_B: Tensor | None, lengths_B2: Tensor | None
) -> Tensor:
    _, num_rows, num_columns = match_BNM.shape
    table = zero_table(match_BNM)
    for i in range(1, num_rows + 1):
        for j in range(1, num_columns + 1):
            gap_B = gap_BNM[:, i - 1, j - 1]
            candidates = (table[i - 1][j - 1], gap_B + table[i - 1][j], gap_B + table[i][j - 1])
            table[i][j] = match_BNM[:, i - 1, j - 1] + smooth_max(candidates, gamma_B)
    return end_of_table(table, lengths_B2)


def _torch(match_BNM: Tensor, gap_BNM: Tensor, gamma_B: Tensor | None, lengths_B2: Tensor | None) -> Tensor:
    return _Fsd.apply(match_BNM, gap_BNM, gamma_B, lengths_B2)


class _Fsd(torch.autograd.Function):
    """The table in units of γ, one diagonal at a time; the gradient by the adjoint recursion."""

    @staticmethod
    def forward(
        ctx: Any, match_BNM: Tensor, gap_BNM: Tensor, gamma_B: Tensor | None, lengths_B2: Tensor | None
    ) -> Tensor:
        layout = Diagonals(*match_BNM.shape[1:])
        scale_B11 = 1.0 if gamma_B is None else gamma_B[:, None, None]
        match_KLB = layout.from_cells(match_BNM / scale_B11, outside=0.0)
        # A place outside the table copies its diagonal predecessor, so that the border stays zero.
        gap_KLB = layout.from_cells(gap_BNM / scale_B11, outside=-torch.inf)
        largest = pairwise_max(hard=gamma_B is None)
        bordered = layout.bordered(match_BNM)
        views = layout.neighbours(bordered)
        steps = zip(*(x.unbind() for x in (*views, match_KLB, gap_KLB)), strict=True)
        for cell, diagonal, up, left, match, gap in steps:
            torch.add(match, largest(diagonal, largest(up, left).add_(gap)), out=cell)
        end = layout.end(lengths_B2)
        ctx.layout, ctx.end = layout, end
        ctx.save_for_backward(match_BNM, gap_BNM, gamma_B, gap_KLB, bordered)
        value_B = bordered[end]
        return value_B.clone() if gamma_B is None else value_B * gamma_B

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad_value_B: Tensor) -> tuple[Tensor | None, ...]:
        _, _, gamma_B, gap_KLB, bordered = ctx.saved_tensors
        layout: Diagonals = ctx.layout
        # Made again from the candidates of the forward pass, the weights are normalised, as exp(candidate −
        # cell) would not be, and one table is kept between the passes instead of three.
        views = layout.neighbours(bordered)
        candidates = (views.diagonal, gap_KLB + views.up, gap_KLB + views.left)
        weights = transition_weights(candidates, hard=gamma_B is None)
        adjoint_KLB = layout.adjoint(bordered, grad_value_B, ctx.end, weights)
        grad_match_BNM = layout.cells(adjoint_KLB).contiguous()
        grad_gap_BNM = grad_match_BNM * (1.0 - layout.cells(weights[0]))
        grad_gamma_B = None
        if ctx.needs_input_grad[2]:
            entropy_BNM = layout.cells(torch.special.entr(weights).sum(dim=0))
            grad_gamma_B = (grad_match_BNM * entropy_BNM).sum(dim=(1, 2))
        return grad_match_BNM, grad_gap_BNM, grad_gamma_B, None


Backend = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
BACKENDS: dict[str, Backend] = {"reference": _reference, "torch": _torch}
