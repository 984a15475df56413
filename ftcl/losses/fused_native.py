"""The fused contrasts on a CPU: similarities and row gradients in C, tables by `ftcl.dp`'s native backend.

Shapes: B pairs, T rows of a sequence, L chosen ones, E channels, H ranges of channels.
"""

import ctypes
import functools
import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ftcl.dp.backends import native
from ftcl.dp.backends.problem import Problem, Wants
from ftcl.losses.contrast import contrast_weights
from ftcl.losses.fused import Comparison

# The fields of `struct contrast` in ftcl/dp/backends/csrc/contrast.h, in its order; all are equally wide.
_pack_call = struct.Struct("@22q").pack

# What the library returns: members of `enum status` and `enum contrast_status` there.
_NO_MEMORY, _NO_SUCH_LEVEL, _NOT_A_ROW = 8, 16, 32


def usable() -> bool:
    """Whether the C library is there."""
    return _library() is not None


def forward(
    comparison: Comparison,
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    is_positive_B: Tensor,
    wants: Wants,
    level: int = -1,
) -> tuple[Tensor, Sequence[Tensor]]:
    """See `Kernels`; `level`: the instruction set, −1 for the best (see `native.best_level`)."""
    num_pairs = len(is_positive_B)
    num_rows = rows_2BTE.shape[1] if chosen_2BL is None else chosen_2BL.shape[1]
    num_ranges = len(comparison.range_ends(rows_2BTE.shape[2]))
    similarity_HBLL = rows_2BTE.new_empty(num_ranges, num_pairs, num_rows, num_rows)
    reciprocal_norm_H2BL = rows_2BTE.new_empty(num_ranges, 2 * num_pairs, num_rows)
    _call(
        "ftcl_contrast_similarity",
        level,
        comparison,
        rows_2BTE,
        chosen_2BL,
        similarity_HBLL,
        reciprocal_norm_H2BL,
    )
    problem = Problem(
        comparison.recurrence, similarity_HBLL.unbind(0), comparison.gamma, comparison.threshold
    )
    solution = native.solve(problem, wants)
    weight_B = contrast_weights(is_positive_B, torch.float32)
    value = torch.dot(solution.value_B, weight_B)
    return value, (similarity_HBLL, reciprocal_norm_H2BL, weight_B, *solution.table_gradients)


def backward(
    comparison: Comparison,
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    kept: Sequence[Tensor],
    grad: Tensor,
    level: int = -1,
) -> Tensor:
    """See `Kernels` and `forward`."""
    similarity_HBLL, reciprocal_norm_H2BL, weight_B, *units = kept
    items, steps, channels = rows_2BTE.shape
    if rows_2BTE.stride(1) < rows_2BTE.stride(2):
        gradient_2BTE = rows_2BTE.new_empty(items, channels, steps).mT
    else:
        gradient_2BTE = rows_2BTE.new_empty(items, steps, channels)
    scale_B = weight_B * grad
    _call(
        "ftcl_contrast_gradient",
        level,
        comparison,
        rows_2BTE,
        chosen_2BL,
        similarity_HBLL,
        reciprocal_norm_H2BL,
        units[0].data_ptr(),
        units[-1].data_ptr(),
        scale_B.data_ptr(),
        *gradient_2BTE.stride(),
        gradient_2BTE.data_ptr(),
    )
    return gradient_2BTE


def _call(
    function: str,
    level: int,
    comparison: Comparison,
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    similarity_HBLL: Tensor,
    reciprocal_norm_H2BL: Tensor,
    *of_the_gradient: int,
) -> None:
    chosen_2BL = None if chosen_2BL is None else chosen_2BL.contiguous()
    num_ranges, num_pairs, num_rows, _ = similarity_HBLL.shape
    range_ends = comparison.range_ends(rows_2BTE.shape[2])
    status = getattr(_library(), function)(
        _pack_call(
            level,
            torch.get_num_threads(),
            num_pairs,
            rows_2BTE.shape[1],
            num_rows,
            num_ranges,
            range_ends[0],
            range_ends[-1],
            *rows_2BTE.stride(),
            rows_2BTE.data_ptr(),
            0 if chosen_2BL is None else chosen_2BL.data_ptr(),
            similarity_HBLL.data_ptr(),
            reciprocal_norm_H2BL.data_ptr(),
            *(of_the_gradient or (0,) * 7),
        )
    )
    if status == _NOT_A_ROW:
        raise ValueError(f"chosen_2BL must be in [0, {rows_2BTE.shape[1] - 1}]")
    if status == _NO_MEMORY:
        raise MemoryError("the native kernels of the contrast got no memory")
    if status == _NO_SUCH_LEVEL:
        raise ValueError(f"level must be at most {native.best_level()} on this machine")


@functools.cache
def _library() -> Any:
    """The C library; None if it was not built, or is older than these functions."""
    if native.unavailable("cpu") is not None:
        return None
    library = native._library()
    try:
        for function in (library.ftcl_contrast_similarity, library.ftcl_contrast_gradient):
            function.argtypes = [ctypes.c_char_p]
            function.restype = ctypes.c_int64
    except AttributeError:
        return None
    return library
