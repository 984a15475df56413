"""The recurrences on a GPU, in Triton: one launch for values and gradients, without a look at the device.

B items, N rows, M columns.
"""

import functools
import importlib.util
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from ftcl.dp.backends.problem import Problem, Solution, Wants


@dataclass(frozen=True)
class Tuning:
    """How the lines of a table, along its shorter side, are spread over a program."""

    max_lanes: int = 2048
    one_warp_lanes: int = 128
    lanes_per_warp: int = 128
    fewest_warps: int = 4

    def lanes(self, lines: int) -> int:
        return min(self.max_lanes, max(32, 1 << (lines - 1).bit_length()))

    def warps(self, lanes: int) -> int:
        """One as long as that is not too slow, for a lone warp needs no barriers."""
        if lanes <= self.one_warp_lanes:
            return 1
        return max(self.fewest_warps, lanes // self.lanes_per_warp)


def unavailable(device: torch.device) -> str | None:
    """Why this backend cannot compute on the device and what to do, or None."""
    if device.type != "cuda":
        return f"it computes on GPUs, not on {device.type}; move the tensors or choose another backend"
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed; pip install triton"
    return None


def solve(problem: Problem, wants: Wants, tuning: Tuning = Tuning()) -> Solution:
    """Values and unit gradients in one launch."""
    kernels = _kernels()
    cell_BNM, *gaps = problem.tables
    batch, num_rows, num_columns = cell_BNM.shape
    dtype = torch.float64 if cell_BNM.dtype == torch.float64 else torch.float32
    is_transposed = num_rows > num_columns
    shorter, longer = sorted((num_rows, num_columns))
    lanes = tuning.lanes(shorter)

    value_B = cell_BNM.new_empty(batch, dtype=dtype)
    gradients: tuple[Tensor, ...] = ()
    gamma_gradient_B = weights = border = None
    if wants >= Wants.TABLE_GRADIENTS:
        gradients = tuple(value_B.new_empty(batch, num_rows, num_columns) for _ in problem.tables)
        if problem.is_hard:
            weights = value_B.new_empty(batch, longer, shorter, dtype=torch.int8)
        else:
            weights = value_B.new_empty(batch, 2, longer, shorter)
    if wants == Wants.GAMMA_GRADIENT:
        gamma_gradient_B = torch.empty_like(value_B)
    if shorter > lanes:
        border = value_B.new_empty(batch, 6, longer)
    solution = Solution(value_B, gradients, gamma_gradient_B)
    if batch == 0:
        return solution

    with torch.cuda.device_of(value_B):
        kernels.solve_kernel[(batch,)](
            *_in_sweep_order(cell_BNM, is_transposed),
            *(_in_sweep_order(gaps[0], is_transposed) if gaps else (None, 0, 0, 0)),
            problem.lengths,
            *(problem.lengths.stride() if problem.lengths is not None else (0, 0)),
            *_per_item(problem.gamma),
            *_per_item(problem.threshold),
            # Beyond the last column a band excludes nothing, and its products with N would overflow.
            None if problem.bandwidth is None else min(problem.bandwidth, num_columns),
            num_rows,
            num_columns,
            value_B,
            gradients[0] if gradients else None,
            gradients[1] if len(gradients) > 1 else None,
            gamma_gradient_B,
            weights,
            border,
            RECURRENCE=problem.recurrence,
            HARD=problem.is_hard,
            TRANSPOSED=is_transposed,
            LANES=lanes,
            num_warps=tuning.warps(lanes),
        )
    return solution


@functools.cache
def _kernels() -> ModuleType:
    """Imported at the first use: Triton need not be there, and takes a while to import."""
    return importlib.import_module("ftcl.dp.backends.triton_kernels")


def _in_sweep_order(table_BNM: Tensor, is_transposed: bool) -> tuple[Tensor, int, int, int]:
    """The table, and its strides from item to item, from line to line and along a line."""
    item, row, column = table_BNM.stride()
    return (table_BNM, item, column, row) if is_transposed else (table_BNM, item, row, column)


def _per_item(value: float | Tensor) -> tuple[Tensor | None, int, float]:
    """A pointer with the stride from item to item, and the number that stands in for a missing pointer."""
    if isinstance(value, Tensor):
        return value, value.stride(0) if value.ndim else 0, 0.0
    return None, 0, float(value)
