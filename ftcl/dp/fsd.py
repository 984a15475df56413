"""Fine-grained sequence distance (FSD): the best-scoring alignment of two sequences with matches and gaps."""

from torch import Tensor

from ftcl.dp._arguments import compute_tables, make_problem, temperature
from ftcl.dp._differentiable import evaluate
from ftcl.dp._reference import bordered_table, end_of_table, smooth_max
from ftcl.dp.backends.problem import Problem


def fsd(
    match_BNM: Tensor,
    gap_BNM: Tensor,
    gamma: float | Tensor,
    lengths: Tensor | None = None,
    *,
    backend: str | None = None,
    recompute: bool = False,
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
    `backend`: one of `ftcl.dp.available_backends(device)`, by default the first; all agree. Only "reference"
    (plain loops) can be differentiated twice.
    `recompute`: keep nothing but the inputs for the backward pass, which then fills the tables again; without
    it, 8 bytes a cell.
    `check`: look at the contents of tensors on a device too; on the CPU that is always done.
    Raises ValueError naming the argument that is malformed.

    Source: Gao, Chen and Xu, "Fine-grained Temporal Contrastive Learning for Weakly-supervised Temporal
    Action Localization", CVPR 2022, arXiv:2203.16800.
    """
    problem = make_problem("fsd", (match_BNM, gap_BNM), gamma, lengths)
    return evaluate(problem, _reference, backend=backend, recompute=recompute, check=check)


def _reference(problem: Problem) -> Tensor:
    match_BNM, gap_BNM = compute_tables(problem)
    gamma_B = temperature(problem)
    _, num_rows, num_columns = match_BNM.shape
    table = bordered_table(match_BNM, border=0.0, corner=0.0)
    for i in range(1, num_rows + 1):
        for j in range(1, num_columns + 1):
            gap_B = gap_BNM[:, i - 1, j - 1]
            candidates = (table[i - 1][j - 1], gap_B + table[i - 1][j], gap_B + table[i][j - 1])
            table[i][j] = match_BNM[:, i - 1, j - 1] + smooth_max(candidates, gamma_B)
    return end_of_table(table, problem.lengths)
