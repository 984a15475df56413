# mypy: ignore-errors
"""The Triton kernel of the recurrences: one program for each item, for values and gradients alike."""

import triton
import triton.language as tl

from ftcl.dp.backends.triton_steps import FEASIBLE
from ftcl.dp.backends.triton_sweeps import adjoint_sweep, forward_sweep, zero_beyond


@triton.jit(
    do_not_specialize=[
        "cell_item_stride",
        "cell_lane_stride",
        "cell_step_stride",
        "gap_item_stride",
        "gap_lane_stride",
        "gap_step_stride",
        "lengths_item_stride",
        "lengths_side_stride",
        "gamma_stride",
        "threshold_stride",
        "bandwidth",
        "num_rows",
        "num_columns",
    ]
)
def solve_kernel(
    cell_ptr,
    cell_item_stride,
    cell_lane_stride,
    cell_step_stride,
    gap_ptr,
    gap_item_stride,
    gap_lane_stride,
    gap_step_stride,
    lengths_ptr,
    lengths_item_stride,
    lengths_side_stride,
    gamma_ptr,
    gamma_stride,
    gamma: tl.float64,
    threshold_ptr,
    threshold_stride,
    threshold: tl.float64,
    bandwidth,
    num_rows,
    num_columns,
    value_ptr,
    cell_gradient_ptr,
    gap_gradient_ptr,
    gamma_gradient_ptr,
    weights_ptr,
    border_ptr,
    RECURRENCE: tl.constexpr,
    HARD: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    LANES: tl.constexpr,
):
    """Value and unit gradients of one item; a pointer that is None leaves out what it stands for.

    `gamma`, `threshold`: numbers, used when `gamma_ptr`, `threshold_ptr` are None.
    """
    DTYPE: tl.constexpr = value_ptr.dtype.element_ty
    item = tl.program_id(0).to(tl.int64)
    rows_in_item, columns_in_item = num_rows, num_columns
    if lengths_ptr is not None:
        lengths_ptr += item * lengths_item_stride
        rows_in_item = tl.load(lengths_ptr).to(tl.int32)
        columns_in_item = tl.load(lengths_ptr + lengths_side_stride).to(tl.int32)
    if gamma_ptr is not None:
        gamma = tl.load(gamma_ptr + item * gamma_stride)
    if threshold_ptr is not None:
        threshold = tl.load(threshold_ptr + item * threshold_stride)
    if TRANSPOSED:
        num_lines, num_steps, max_lines, max_steps = columns_in_item, rows_in_item, num_columns, num_rows
    else:
        num_lines, num_steps, max_lines, max_steps = rows_in_item, columns_in_item, num_rows, num_columns
    num_cells = tl.cast(num_rows, tl.int64) * num_columns
    cell_ptr += item * cell_item_stride
    if gap_ptr is not None:
        gap_ptr += item * gap_item_stride
    if weights_ptr is not None:
        weights_ptr += item * num_cells * (1 if HARD else 2)
    if border_ptr is not None:
        border_ptr += item * 6 * max_steps
    value, gamma_gradient = forward_sweep(
        cell_ptr,
        cell_lane_stride,
        cell_step_stride,
        gap_ptr,
        gap_lane_stride,
        gap_step_stride,
        num_lines,
        num_steps,
        tl.full((), gamma, DTYPE),
        tl.full((), threshold, DTYPE),
        bandwidth,
        weights_ptr,
        max_lines,
        max_steps,
        border_ptr,
        RECURRENCE,
        HARD,
        TRANSPOSED,
        gamma_gradient_ptr is not None and not HARD,
        LANES,
        DTYPE,
    )
    seed = tl.full((), 1.0, DTYPE)
    if RECURRENCE == "soft_dtw" or RECURRENCE == "smooth_dtw":
        is_feasible = value > FEASIBLE
        value = tl.where(is_feasible, -value, float("inf"))
        gamma_gradient = tl.where(is_feasible, -gamma_gradient, 0.0)
        seed = tl.where(is_feasible, seed, 0.0)
    tl.store(value_ptr + item, value)
    if gamma_gradient_ptr is not None:
        tl.store(gamma_gradient_ptr + item, gamma_gradient)
    if weights_ptr is not None:
        cell_gradient_ptr += item * num_cells
        if gap_gradient_ptr is not None:
            gap_gradient_ptr += item * num_cells
        adjoint_sweep(
            seed,
            weights_ptr,
            max_lines,
            max_steps,
            cell_gradient_ptr,
            gap_gradient_ptr,
            1 if TRANSPOSED else num_columns,
            num_columns if TRANSPOSED else 1,
            num_lines,
            num_steps,
            bandwidth,
            border_ptr,
            RECURRENCE,
            HARD,
            TRANSPOSED,
            LANES,
            DTYPE,
        )
        if lengths_ptr is not None:
            zero_beyond(cell_gradient_ptr, num_rows, num_columns, rows_in_item, columns_in_item, LANES)
            if gap_gradient_ptr is not None:
                zero_beyond(gap_gradient_ptr, num_rows, num_columns, rows_in_item, columns_in_item, LANES)
