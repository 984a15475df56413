"""Dynamic time warping (DTW): the cheapest monotone alignment of two sequences, and its path."""

from typing import Literal, overload

import torch
from torch import Tensor

from ftcl.dp._arguments import make_problem
from ftcl.dp._differentiable import evaluate_with_adjoint
from ftcl.dp.soft_dtw import soft_dtw


@overload
def dtw(
    cost_BNM: Tensor,
    lengths: Tensor | None = None,
    *,
    bandwidth: int | None = None,
    return_path: Literal[False] = False,
    backend: str | None = None,
    check: bool = False,
) -> Tensor: ...


@overload
def dtw(
    cost_BNM: Tensor,
    lengths: Tensor | None = None,
    *,
    bandwidth: int | None = None,
    return_path: Literal[True],
    backend: str | None = None,
    check: bool = False,
) -> tuple[Tensor, Tensor]: ...


def dtw(
    cost_BNM: Tensor,
    lengths: Tensor | None = None,
    *,
    bandwidth: int | None = None,
    return_path: bool = False,
    backend: str | None = None,
    check: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Least summed cost over all monotone alignments, one value per item: `soft_dtw` at γ = 0.

    R[i,j] = c[i,j] + min(R[i−1,j−1], R[i−1,j], R[i,j−1]), with R[0,0] = 0, R[i,0] = R[0,j] = ∞ and value
    R[N,M].

    `cost_BNM`: (B, N, M), float64, float32 or bfloat16 (computed and returned in float32). Its gradient is 1
    on the cells of the cheapest path; ties go to the diagonal, then up, then left.
    `lengths`: (B, 2) integers, rows and columns of each item; None for all. What lies beyond has no effect.
    `return_path`: return (value_B, path_BK2) too: the row and column, from 0, of the K = N + M − 1 steps at
    most, in order, −1 behind the last one. It stays on the device of the cost.
    `bandwidth`, `backend`, `check`: as for `soft_dtw`; "reference" returns no path.
    Raises ValueError naming the argument that is malformed.

    Source: Sakoe and Chiba, "Dynamic programming algorithm optimization for spoken word recognition", IEEE
    Trans. ASSP 26(1), 1978.
    """
    if not return_path:
        return soft_dtw(cost_BNM, 0, lengths, bandwidth=bandwidth, backend=backend, check=check)
    problem = make_problem("soft_dtw", (cost_BNM,), 0, lengths, bandwidth=bandwidth)
    value_B, adjoint_BNM = evaluate_with_adjoint(problem, backend=backend, check=check)
    return value_B, _steps(adjoint_BNM != 0)


def _steps(on_path_BNM: Tensor) -> Tensor:
    """The cells that are on a path, in its order; each lies on an anti-diagonal of its own."""
    batch, num_rows, num_columns = on_path_BNM.shape
    num_diagonals = num_rows + num_columns - 1
    row_N1 = torch.arange(num_rows, device=on_path_BNM.device)[:, None]
    column_M = torch.arange(num_columns, device=on_path_BNM.device)
    # Cells off the path all go to one slot behind, which is then cut off.
    slot_BNM = torch.where(on_path_BNM, row_N1 + column_M, num_diagonals)
    cell_NM = row_N1 * num_columns + column_M
    nowhere_BK = cell_NM.new_full((batch, num_diagonals + 1), -1)
    cell_BK = nowhere_BK.scatter(1, slot_BNM.flatten(1), cell_NM.expand_as(slot_BNM).flatten(1))[:, :-1]
    # A diagonal step skips an anti-diagonal; a stable sort closes the holes.
    order_BK = (cell_BK < 0).to(torch.uint8).argsort(dim=1, stable=True)
    cell_BK = cell_BK.gather(1, order_BK)
    path_BK2 = torch.stack((cell_BK // num_columns, cell_BK % num_columns), dim=2)
    return path_BK2.masked_fill(cell_BK[:, :, None] < 0, -1)
