"""Smooth dynamic time warping in the `prob` form: a softmin-weighted mean of the predecessors."""

from torch import Tensor

from ftcl.dp._arguments import compute_tables, make_problem, temperature
from ftcl.dp._differentiable import evaluate
from ftcl.dp._reference import UNREACHABLE, bordered_table, end_of_table, softmin_mean
from ftcl.dp.backends.problem import Problem


def smooth_dtw(
    cost_BNM: Tensor,
    gamma: float | Tensor,
    lengths: Tensor | None = None,
    *,
    backend: str | None = None,
    recompute: bool = False,
    check: bool = False,
) -> Tensor:
    """Cost of an alignment that comes from each predecessor with its softmin probability, one value per item.

    R[i,j] = c[i,j] + Σ_k p_k n_k, with n = (R[i−1,j−1], R[i−1,j], R[i,j−1]), p = softmax(−n/γ), R[0,0] = 0,
    R[i,0] = R[0,j] = ∞ (with probability 0) and value R[N,M]. Never below DTW, unlike soft-DTW.

    `cost_BNM`: (B, N, M), float64, float32 or bfloat16 (computed and returned in float32).
    `gamma`: temperature γ in units of the cost; a number, or a tensor () or (B,) that gets a gradient. The
    number 0 takes the plain minimum (DTW), whose ties go to the diagonal, then up, then left; a tensor must
    be positive.
    `lengths`: (B, 2) integers, rows and columns of each item; None for all. What lies beyond has no effect.
    `backend`: one of `ftcl.dp.available_backends(device)`, by default the first; all agree. Only "reference"
    (plain loops) can be differentiated twice.
    `recompute`: keep nothing but the inputs for the backward pass, which then fills the tables again; without
    it, 4 bytes a cell.
    `check`: look at the contents of tensors on a device too; on the CPU that is always done.
    Raises ValueError naming the argument that is malformed.

    Source: Hadji, Derpanis and Jepson, "Representation Learning via Global Temporal Alignment and
    Cycle-Consistency", CVPR 2021, arXiv:2105.05217.
    """
    problem = make_problem("smooth_dtw", (cost_BNM,), gamma, lengths)
    return evaluate(problem, _reference, backend=backend, recompute=recompute, check=check)


def _reference(problem: Problem) -> Tensor:
    (cost_BNM,) = compute_tables(problem)
    gamma_B = temperature(problem)
    _, num_rows, num_columns = cost_BNM.shape
    table = bordered_table(cost_BNM, border=UNREACHABLE, corner=0.0)
    for i in range(1, num_rows + 1):
        for j in range(1, num_columns + 1):
            predecessors = (table[i - 1][j - 1], table[i - 1][j], table[i][j - 1])
            table[i][j] = cost_BNM[:, i - 1, j - 1] + softmin_mean(predecessors, gamma_B)
    return end_of_table(table, problem.lengths)
