"""Longest common subsequence (LCS) of two sequences under a similarity threshold.

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


def lcs(
    similarity_BNM: Tensor,
    threshold: float | Tensor,
    lengths: Tensor | None = None,
    *,
    gamma: float | Tensor = 0.0,
    backend: str | None = None,
    check: bool = False,
) -> Tensor:
    """Summed similarity of the common subsequence of two sequences, one value per item.

    C[i,j] = C[i−1,j−1] + s[i,j] if s[i,j] > τ, else max(C[i−1,j], C[i,j−1]), with C[i,0] = C[0,j] = 0 and
    value C[N,M].
    With γ > 0 the else-branch takes smax_γ(v) = γ·log Σ exp(v/γ); a match stays a strict threshold.

    `similarity_BNM`: (B, N, M), float64, float32 or bfloat16 (computed and returned in float32). At γ = 0 its
    gradient is 1 on the matches of the chosen path, which goes left only if left is strictly greater than up.
    `threshold`: τ in units of the similarity; a number, a tensor () or (B,). It gets no gradient.
    `lengths`: (B, 2) integers, rows and columns of each item; None for all. What lies beyond has no effect.
    `gamma`: smooth-max temperature γ in units of the similarity; a number, or a tensor () or (B,) that gets a
    gradient. The number 0 takes the plain maximum; a tensor must be positive.
    `backend`: "torch" (default; first derivatives only) or "reference" (plain loops, any derivative).
    `check`: look at the contents of tensors on a device too; on the CPU that is always done.
    Raises ValueError naming the argument that is malformed.

    Source: Gao, Chen and Xu, "Fine-grained Temporal Contrastive Learning for Weakly-supervised Temporal
    Action Localization", CVPR 2022, arXiv:2203.16800; the smooth else-branch is this project's definition.
    """
    compute = _arguments.choose_backend(BACKENDS, backend)
    (similarity_BNM,), lengths_B2 = _arguments.tables({"similarity_BNM": similarity_BNM}, lengths, check)
    threshold_B = _arguments.threshold_per_item(threshold, similarity_BNM, check)
    gamma_B = _arguments.gamma_per_item(gamma, similarity_BNM, check)
    return compute(similarity_BNM, threshold_B, gamma_B, lengths_B2)


def _reference(
    similarity_BNM: Tensor, threshold_B: Tensor, gamma_B: Tensor | None, lengths_B2: Tensor | None
) -> Tensor:
    _, num_rows, num_columns = similarity_BNM.shape
    table = zero_table(similarity_BNM)
    for i in range(1, num_rows + 1):
        for j in range(1, num_columns + 1):
            similarity_B = similarity_BNM[:, i - 1, j - 1]
            matched_B = table[i - 1][j - 1] + similarity_B
            skipped_B = smooth_max((table[i - 1][j], table[i][j - 1]), gamma_B)
            table[i][j] = torch.where(similarity_B > threshold_B, matched_B, skipped_B)
    return end_of_table(table, lengths_B2)


def _torch(
    similarity_BNM: Tensor, threshold_B: Tensor, gamma_B: Tensor | None, lengths_B2: Tensor | None
) -> Tensor:
    return _Lcs.apply(similarity_BNM, threshold_B, gamma_B, lengths_B2)


class _Lcs(torch.autograd.Function):
    """The table in units of γ, one diagonal at a time; the gradient by the adjoint recursion."""

    @staticmethod
    def forward(
        ctx: Any,
        similarity_BNM: Tensor,
        threshold_B: Tensor,
        gamma_B: Tensor | None,
        lengths_B2: Tensor | None,
    ) -> Tensor:
        layout = Diagonals(*similarity_BNM.shape[1:])
        is_match_BNM = similarity_BNM > threshold_B[:, None, None]
        scale_B11 = 1.0 if gamma_B is None else gamma_B[:, None, None]
        similarity_KLB = layout.from_cells(similarity_BNM / scale_B11, outside=0.0)
        # A place outside the table copies its diagonal predecessor, so that the border stays zero.
        is_match_KLB = layout.from_cells(is_match_BNM, outside=True)
        largest = pairwise_max(hard=gamma_B is None)
        bordered = layout.bordered(similarity_BNM)
        views = layout.neighbours(bordered)
        steps = zip(*(x.unbind() for x in (*views, similarity_KLB, is_match_KLB)), strict=True)
        for cell, diagonal, up, left, similarity, is_match in steps:
            torch.where(is_match, diagonal + similarity, largest(up, left), out=cell)
        end = layout.end(lengths_B2)
        ctx.layout, ctx.end = layout, end
        ctx.save_for_backward(similarity_BNM, gamma_B, is_match_KLB, bordered)
        value_B = bordered[end]
        return value_B.clone() if gamma_B is None else value_B * gamma_B

    @staticmethod
    @first_derivative_only
    def backward(ctx: Any, grad_value_B: Tensor) -> tuple[Tensor | None, ...]:
        _, gamma_B, is_match_KLB, bordered = ctx.saved_tensors
        layout: Diagonals = ctx.layout
        views = layout.neighbours(bordered)
        skip_weights = transition_weights((views.up, views.left), hard=gamma_B is None)
        skip_weights = skip_weights.masked_fill_(is_match_KLB, 0.0)
        weights = (is_match_KLB.to(bordered.dtype), *skip_weights)
        adjoint_KLB = layout.adjoint(bordered, grad_value_B, ctx.end, weights)
        grad_similarity_BNM = layout.cells(adjoint_KLB) * layout.cells(is_match_KLB)
        grad_gamma_B = None
        if ctx.needs_input_grad[2]:
            entropy_KLB = torch.special.entr(skip_weights).sum(dim=0)
            grad_gamma_B = (layout.cells(adjoint_KLB) * layout.cells(entropy_KLB)).sum(dim=(1, 2))
        return grad_similarity_BNM, None, grad_gamma_B, None


Backend = Callable[[Tensor, Tensor, Tensor | None, Tensor | None], Tensor]
BACKENDS: dict[str, Backend] = {"reference": _reference, "torch": _torch}
