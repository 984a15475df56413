"""Soft dynamic time warping (soft-DTW): the smooth minimum of the cost over all monotone alignments."""

import torch
from torch import Tensor

from ftcl.dp._arguments import compute_tables, is_outside_band, make_problem, temperature
from ftcl.dp._differentiable import evaluate
from ftcl.dp._reference import UNREACHABLE, bordered_table, end_of_table, smooth_min
from ftcl.dp.backends.problem import Problem


def soft_dtw(
    cost_BNM: Tensor,
    gamma: float | Tensor,
    lengths: Tensor | None = None,
    *,
    bandwidth: int | None = None,
    backend: str | None = None,
    recompute: bool = False,
    check: bool = False,
) -> Tensor:
    """Smooth minimum over all monotone alignments of their summed cost, one value per item.

    R[i,j] = c[i,j] + smin_γ(R[i−1,j−1], R[i−1,j], R[i,j−1]), with R[0,0] = 0, R[i,0] = R[0,j] = ∞,
    smin_γ(v) = −γ·log Σ exp(−v/γ) and value R[N,M].

    `cost_BNM`: (B, N, M), float64, float32 or bfloat16 (computed and returned in float32). Its gradient is
    the expected alignment: the share of the paths through each cell, each path weighted by exp(−its cost/γ).
    `gamma`: temperature γ in units of the cost; a number, or a tensor () or (B,) that gets a gradient. The
    number 0 takes the plain minimum (DTW), whose ties go to the diagonal, then up, then left; a tensor must
    be positive.
    `lengths`: (B, 2) integers, rows and columns of each item; None for all. What lies beyond has no effect.
    `bandwidth`: Sakoe-Chiba radius r in columns; paths stay where |(i−1)(M−1)/max(N−1, 1) − (j−1)| ≤ r, with
    the item's own N and M. An item without such a path has the value ∞ and gradient 0. None for no band.
    `backend`: one of `ftcl.dp.available_backends(device)`, by default the first; all agree. Only "reference"
    (plain loops) can be differentiated twice.
    `recompute`: keep nothing but the inputs for the backward pass, which then fills the tables again; without
    it, 4 bytes a cell.
    `check`: look at the contents of tensors on a device too; on the CPU that is always done.
    Raises ValueError naming the argument that is malformed.

    Source: Cuturi and Blondel, "Soft-DTW: a Differentiable Loss Function for Time-Series", ICML 2017,
    arXiv:1703.01541, equation 1; the band: Sakoe and Chiba, IEEE Trans. ASSP 26(1), 1978.
    """
    problem = make_problem("soft_dtw", (cost_BNM,), gamma, lengths, bandwidth=bandwidth)
    return evaluate(problem, _reference, backend=backend, recompute=recompute, check=check)


def _reference(problem: Problem) -> Tensor:
    (cost_BNM,) = compute_tables(problem)
    if problem.bandwidth is not None:
        cost_BNM = cost_BNM.masked_fill(is_outside_band(problem), UNREACHABLE)
    gamma_B = temperature(problem)
    _, num_rows, num_columns = cost_BNM.shape
    table = bordered_table(cost_BNM, border=UNREACHABLE, corner=0.0)
    for i in range(1, num_rows + 1):
        for j in range(1, num_columns + 1):
            candidates = (table[i - 1][j - 1], table[i - 1][j], table[i][j - 1])
            table[i][j] = cost_BNM[:, i - 1, j - 1] + smooth_min(candidates, gamma_B)
    value_B = end_of_table(table, problem.lengths)
    return value_B.masked_fill(value_B > 0.5 * UNREACHABLE, torch.inf)
