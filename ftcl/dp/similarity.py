"""Cosine similarity between all rows of two batches of sequences.

B items, N and M rows, D channels.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ftcl.dp import _arguments


def cosine_similarity(x_BND: Tensor, y_BMD: Tensor) -> Tensor:
    """Cosine of the angle between every row of x and every row of y, item by item, as (B, N, M).

    s[i,j] = (x_i · y_j) · 1/|x_i| · 1/|y_j|, with 0 for the reciprocal norm of a row of zeros, or of one so
    small that 1/|x|² may overflow (|x| < 9e-19 in float32): similarity and gradient are 0 there.
    Differentiable any number of times.

    `x_BND`, `y_BMD`: (B, N, D) and (B, M, D), float64, float32 or bfloat16 (computed and returned in float32,
    also under autocast).
    Raises ValueError naming the argument that is malformed.
    """
    x = _arguments.to_compute_dtype("x_BND", x_BND)
    y = _arguments.to_compute_dtype("y_BMD", y_BMD)
    if x.ndim != 3:
        raise ValueError(f"x_BND must have shape (B, N, D), got {tuple(x.shape)}")
    batch, _, channels = x.shape
    if y.ndim != 3 or y.shape[0] != batch or y.shape[2] != channels:
        raise ValueError(f"y_BMD must have shape ({batch}, M, {channels}) like x_BND, got {tuple(y.shape)}")
    _arguments.check_same("y_BMD", y_BMD, "x_BND", x_BND)
    # Matrix products under autocast would fall back to bfloat16, too coarse for a threshold such as 0.92.
    with torch.autocast(x.device.type, enabled=False):
        return _CosineSimilarity.apply(x, y)


class _CosineSimilarity(torch.autograd.Function):
    """Scales the small product instead of the wide rows, forward and backward.

    For an incoming gradient G: dx_i = Σ_j G[i,j]/(|x_i||y_j|) y_j − x_i/|x_i|² Σ_j G[i,j] s[i,j].
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x_BND: Tensor, y_BMD: Tensor) -> Tensor:
        similarity_BNM = torch.bmm(x_BND, y_BMD.mT)
        similarity_BNM *= _reciprocal_norm(x_BND)[:, :, None]
        similarity_BNM *= _reciprocal_norm(y_BMD)[:, None, :]
        return similarity_BNM

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], similarity_BNM: Tensor) -> None:
        ctx.save_for_backward(*inputs, similarity_BNM)

    @staticmethod
    def backward(ctx: Any, grad_BNM: Tensor) -> tuple[Tensor, Tensor]:
        x_BND, y_BMD, similarity_BNM = ctx.saved_tensors
        # Norms are recomputed, not saved, so that a second derivative sees how they depend on the rows.
        x_reciprocal_BN, y_reciprocal_BM = _reciprocal_norm(x_BND), _reciprocal_norm(y_BMD)
        product_grad_BNM = grad_BNM * x_reciprocal_BN[:, :, None] * y_reciprocal_BM[:, None, :]
        weighted_BNM = grad_BNM * similarity_BNM
        x_shrink_BN = weighted_BNM.sum(dim=2) * -(x_reciprocal_BN**2)
        y_shrink_BM = weighted_BNM.sum(dim=1) * -(y_reciprocal_BM**2)
        return (
            torch.baddbmm(x_BND * x_shrink_BN[:, :, None], product_grad_BNM, y_BMD),
            torch.baddbmm(y_BMD * y_shrink_BM[:, :, None], product_grad_BNM.mT, x_BND),
        )


def smallest_norm(dtype: torch.dtype) -> float:
    """Norm below which a row counts as zero: the square of its reciprocal comes near the largest number."""
    return 8.0 * math.sqrt(torch.finfo(dtype).tiny)


def _reciprocal_norm(x_BND: Tensor) -> Tensor:
    norm_BN = torch.linalg.vector_norm(x_BND, dim=2)
    is_zero_BN = norm_BN < smallest_norm(x_BND.dtype)
    # Filled before the division too: its gradient at 0 would be infinite, and NaN after the outer fill.
    return norm_BN.masked_fill(is_zero_BN, 1.0).reciprocal().masked_fill(is_zero_BN, 0.0)
