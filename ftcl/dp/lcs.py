"""Longest common subsequence (LCS) of two sequences under a similarity threshold."""

import torch
from torch import Tensor

from ftcl.dp._arguments import compute_tables, make_problem, per_item, temperature
from ftcl.dp._differentiable import evaluate
from ftcl.dp._reference import bordered_table, end_of_table, smooth_max
from ftcl.dp.backends.problem import Problem


def lcs(
    similarity_BNM: Tensor,
    threshold: float | Tensor,
    lengths: Tensor | None = None,
    *,
    gamma: float | Tensor = 0.0,
    backend: str | None = None,
    recompute: bool = False,
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
    `backend`: one of `ftcl.dp.available_backends(device)`, by default the first; all agree. Only "reference"
    (plain loops) can be differentiated twice.
    `recompute`: keep nothing but the inputs for the backward pass, which then fills the tables again; without
    it, 4 bytes a cell.
    `check`: look at the contents of tensors on a device too; on the CPU that is always done.
    Raises ValueError naming the argument that is malformed.

    Source: Gao, Chen and Xu, "Fine-grained Temporal Contrastive Learning for Weakly-supervised Temporal
    Action Localization", CVPR 2022, arXiv:2203.16800; the smooth else-branch is this project's definition.
    """
    problem = make_problem("lcs", (similarity_BNM,), gamma, lengths, threshold=threshold)
    return evaluate(problem, _reference, backend=backend, recompute=recompute, check=check)


def _reference(problem: Problem) -> Tensor:
    (similarity_BNM,) = compute_tables(problem)
    gamma_B = temperature(problem)
    threshold_B = per_item(problem.threshold, similarity_BNM)
    _, num_rows, num_columns = similarity_BNM.shape
    table = bordered_table(similarity_BNM, border=0.0, corner=0.0)
    for i in range(1, num_rows + 1):
        for j in range(1, num_columns + 1):
            similarity_B = similarity_BNM[:, i - 1, j - 1]
            matched_B = table[i - 1][j - 1] + similarity_B
            skipped_B = smooth_max((table[i - 1][j], table[i][j - 1]), gamma_B)
            table[i][j] = torch.where(similarity_B > threshold_B, matched_B, skipped_B)
    return end_of_table(table, problem.lengths)
