"""The fused contrasts on a GPU, in Triton: two launches and a sum forward, a fill and a launch backward.

Shapes: B pairs, T rows of a sequence, L chosen ones, E channels, H ranges of channels.
"""

import functools
import importlib
from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from ftcl.dp.backends.problem import Wants
from ftcl.dp.backends.triton_backend import Tuning
from ftcl.losses.fused import Comparison

_MAX_TILE = 32  # rows of either sequence that a program holds
_CHANNELS = 64  # that it holds at a time
_SPLIT = 256  # channels that it multiplies: few, so that few pairs keep a large GPU busy


def usable() -> bool:
    """Always: that Triton is there is what its backend in `ftcl.dp` has made sure of."""
    return True


def forward(
    comparison: Comparison,
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    is_positive_B: Tensor,
    wants: Wants,
) -> tuple[Tensor, Sequence[Tensor]]:
    """See `Kernels`."""
    kernels = _kernels()
    num_pairs = len(is_positive_B)
    num_rows = rows_2BTE.shape[1] if chosen_2BL is None else chosen_2BL.shape[1]
    first_range_end, num_channels, longest = _ranges(comparison, rows_2BTE)
    num_ranges = len(comparison.range_ends(num_channels))
    num_splits = -(-longest // _SPLIT)
    tuning = Tuning()
    lanes, tile = tuning.lanes(num_rows), _tile(num_rows)
    num_tiles = -(-num_rows // tile)
    is_hard = comparison.gamma == 0

    new = functools.partial(torch.empty, dtype=torch.float32, device=rows_2BTE.device)
    partial = new(num_ranges, num_pairs, num_splits, num_rows, num_rows)
    square = new(num_ranges, 2 * num_pairs, num_splits, num_rows)
    similarity_HBLL = new(num_ranges, num_pairs, num_rows, num_rows)
    reciprocal_norm_H2BL = new(num_ranges, 2 * num_pairs, num_rows)
    weighted_value_B = new(num_pairs)
    unit_HBLL = weights = border = None
    if wants:
        unit_HBLL = torch.empty_like(similarity_HBLL)
        weights = new(num_pairs, 2, num_rows, num_rows)
        if is_hard:
            weights = new(num_pairs, num_rows, num_rows, dtype=torch.int8)
    if num_rows > lanes:
        border = new(num_pairs, 6, num_rows)
    with torch.cuda.device_of(rows_2BTE):
        kernels.products_kernel[(num_pairs * num_ranges * num_splits, num_tiles, num_tiles)](
            rows_2BTE,
            *rows_2BTE.stride(),
            _contiguous(chosen_2BL),
            rows_2BTE.shape[1],
            num_pairs,
            num_rows,
            first_range_end,
            num_channels,
            num_splits,
            partial,
            square,
            TILE=tile,
            CHANNELS=_CHANNELS,
            SPLIT=_SPLIT,
        )
        kernels.contrast_kernel[(num_pairs,)](
            partial,
            square,
            num_splits,
            is_positive_B.contiguous().view(torch.uint8),
            num_pairs,
            num_rows,
            comparison.gamma,
            comparison.threshold,
            similarity_HBLL,
            reciprocal_norm_H2BL,
            weighted_value_B,
            unit_HBLL,
            weights,
            border,
            RECURRENCE=comparison.recurrence,
            HARD=is_hard,
            NUM_RANGES=num_ranges,
            TILE=tile,
            LANES=lanes,
            num_warps=tuning.warps(lanes),
        )
    kept = (similarity_HBLL, reciprocal_norm_H2BL, unit_HBLL) if unit_HBLL is not None else ()
    return weighted_value_B.sum(), kept


def backward(
    comparison: Comparison,
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    kept: Sequence[Tensor],
    grad: Tensor,
) -> Tensor:
    """See `Kernels`."""
    similarity_HBLL, reciprocal_norm_H2BL, unit_HBLL = kept
    num_ranges, num_pairs, num_rows, _ = similarity_HBLL.shape
    first_range_end, num_channels, longest = _ranges(comparison, rows_2BTE)
    tile = _tile(num_rows)
    gradient_2BTE = torch.empty_like(rows_2BTE) if chosen_2BL is None else torch.zeros_like(rows_2BTE)
    grid = (2 * num_pairs * num_ranges, -(-num_rows // tile), -(-longest // _CHANNELS))
    with torch.cuda.device_of(rows_2BTE):
        _kernels().row_gradient_kernel[grid](
            rows_2BTE,
            *rows_2BTE.stride(),
            _contiguous(chosen_2BL),
            rows_2BTE.shape[1],
            num_pairs,
            num_rows,
            first_range_end,
            num_channels,
            similarity_HBLL,
            reciprocal_norm_H2BL,
            unit_HBLL,
            grad,
            gradient_2BTE,
            *gradient_2BTE.stride(),
            TILE=tile,
            CHANNELS=_CHANNELS,
        )
    return gradient_2BTE


def _ranges(comparison: Comparison, rows_2BTE: Tensor) -> tuple[int, int, int]:
    """End of the first range, end of the last one, and the length of the longest."""
    ends = comparison.range_ends(rows_2BTE.shape[2])
    return ends[0], ends[-1], max(ends[0], ends[-1] - ends[0])


def _tile(num_rows: int) -> int:
    """Rows that a program takes on: a power of two of at least 16, as its matrix products need."""
    return min(_MAX_TILE, max(16, 1 << (num_rows - 1).bit_length()))


def _contiguous(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


@functools.cache
def _kernels() -> ModuleType:
    """Imported at the first use: Triton need not be there, and takes a while to import."""
    return importlib.import_module("ftcl.losses.fused_triton_kernels")
