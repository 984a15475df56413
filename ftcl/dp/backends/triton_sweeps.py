# mypy: ignore-errors
"""Sweeps of a Triton program over one item's table, an anti-diagonal at a time; for any kernel to call.

A lane holds one line along the shorter side of the table; on diagonal k it is at step k − lane of the longer
side, so that a cell's predecessors are the lane itself and the lane before it, one diagonal ago, and the lane
before it, two diagonals ago. With more lines than lanes, the lines are cut into bands, which pass on their
last line through global memory.

Loads run four diagonals ahead, so that no step waits for memory.
"""

import triton
import triton.language as tl

from ftcl.dp.backends.triton_steps import (
    EXCLUDED,
    add,
    from_lane_after,
    from_lane_before,
    hard_step,
    inside_band,
    soft_step,
)

FAR = tl.constexpr(1 << 30)  # beyond any diagonal


@triton.jit
def is_within(step, num_steps):
    """Whether 0 ≤ step < num_steps, in one comparison: a negative number is a large one without a sign."""
    return step.to(tl.uint32) < tl.cast(num_steps, tl.uint32)


@triton.jit
def load_diagonal(ptr, offset, step_stride, k, start, num_steps):
    """The cells on diagonal k, zero where a lane is on none; `offset`: of each lane's place on diagonal 0."""
    address = ptr + tl.cast(k, tl.int64) * step_stride + offset
    return tl.load(address, mask=is_within(k - start, num_steps), other=0.0)


@triton.jit
def load_first_diagonals(ptr, offset, step_stride, start, num_steps):
    """A queue of the diagonals that are loaded ahead."""
    return (
        load_diagonal(ptr, offset, step_stride, 0, start, num_steps),
        load_diagonal(ptr, offset, step_stride, 1, start, num_steps),
        load_diagonal(ptr, offset, step_stride, 2, start, num_steps),
        load_diagonal(ptr, offset, step_stride, 3, start, num_steps),
    )


@triton.jit
def weights_slot(weights_ptr, k, line, max_lines, max_steps, HARD: tl.constexpr):
    """Where a band's diagonal k has its weights: (max_steps, max_lines) directions, or pairs of numbers.

    Two diagonals share a row, but no place in it.
    """
    row = tl.where(k < max_steps, k, k - max_steps)
    place = tl.cast(row, tl.int64) * max_lines + line
    if HARD:
        return weights_ptr + place
    else:
        return weights_ptr + 2 * place[:, None] + tl.arange(0, 2)[None, :]


@triton.jit
def load_weights(weights_ptr, k, line, start, num_steps, max_lines, max_steps, HARD: tl.constexpr):
    """What `forward_sweep` stored for diagonal k, zero where a lane is on no cell."""
    is_cell = is_within(k - start, num_steps)
    slot = weights_slot(weights_ptr, k, line, max_lines, max_steps, HARD)
    return tl.load(slot, mask=is_cell if HARD else is_cell[:, None], other=0)


@triton.jit
def load_last_weights(weights_ptr, k, line, start, num_steps, max_lines, max_steps, HARD: tl.constexpr):
    """A queue of the weights that are loaded ahead, from diagonal k down."""
    return (
        load_weights(weights_ptr, k, line, start, num_steps, max_lines, max_steps, HARD),
        load_weights(weights_ptr, k - 1, line, start, num_steps, max_lines, max_steps, HARD),
        load_weights(weights_ptr, k - 2, line, start, num_steps, max_lines, max_steps, HARD),
        load_weights(weights_ptr, k - 3, line, start, num_steps, max_lines, max_steps, HARD),
    )


@triton.jit
def forward_sweep(
    cell_ptr,
    cell_lane_stride,
    cell_step_stride,
    gap_ptr,
    gap_lane_stride,
    gap_step_stride,
    num_lines,
    num_steps,
    gamma,
    threshold,
    bandwidth,
    weights_ptr,
    max_lines,
    max_steps,
    border_ptr,
    RECURRENCE: tl.constexpr,
    HARD: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    GAMMA_GRADIENT: tl.constexpr,
    LANES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Fill one item's table; return its last value, in the form that is maximised, and that one's d/dγ.

    `cell_ptr`, `gap_ptr`: the item's first cell; None for no gap. `num_lines`, `num_steps`: the item's own.
    `weights_ptr`: where the item's transition weights go for `adjoint_sweep`: max_steps × max_lines pairs, or
    int8 directions when HARD; None for nowhere. `border_ptr`: 6 × max_steps numbers for the lines
    that bands pass on; None when max_lines ≤ LANES. `bandwidth`: None for no Sakoe-Chiba band.
    """
    IS_COST: tl.constexpr = RECURRENCE == "soft_dtw" or RECURRENCE == "smooth_dtw"
    BORDER: tl.constexpr = EXCLUDED if IS_COST else 0.0
    lane = tl.arange(0, LANES)
    zero = tl.full((LANES,), 0.0, DTYPE)
    value = tl.full((), 0.0, DTYPE)
    value_tangent = tl.full((), 0.0, DTYPE)
    for first in range(0, num_lines, LANES):
        line = first + lane
        band_lines = tl.minimum(num_lines - first, LANES)
        start = tl.where(lane < band_lines, lane, FAR)  # the diagonal on which a lane enters the table
        cell_offset = line.to(tl.int64) * cell_lane_stride - lane.to(tl.int64) * cell_step_stride
        cells = load_first_diagonals(cell_ptr, cell_offset, cell_step_stride, start, num_steps)
        if gap_ptr is not None:
            gap_offset = line.to(tl.int64) * gap_lane_stride - lane.to(tl.int64) * gap_step_stride
            gaps = load_first_diagonals(gap_ptr, gap_offset, gap_step_stride, start, num_steps)
        if border_ptr is not None:
            # Two sets of lines: a band writes one while it still reads the other.
            parity = (first // LANES) % 2
            border_out = border_ptr + parity * 3 * max_steps
            border_in = border_ptr + (1 - parity) * 3 * max_steps
            tl.debug_barrier()
        own_hi, own_lo, own_tangent = zero + BORDER, zero, zero
        # The corner before the first cell belongs to no path's cost.
        diagonal_hi, diagonal_lo, diagonal_tangent = tl.where(line == 0, 0.0, own_hi), zero, zero
        for k in range(0, num_steps + band_lines - 1):
            step = k - start
            is_cell = is_within(step, num_steps)
            cell = cells[0].to(DTYPE)
            ahead = load_diagonal(cell_ptr, cell_offset, cell_step_stride, k + 4, start, num_steps)
            cells = (cells[1], cells[2], cells[3], ahead)
            gap = None
            if gap_ptr is not None:
                gap = gaps[0].to(DTYPE)
                ahead = load_diagonal(gap_ptr, gap_offset, gap_step_stride, k + 4, start, num_steps)
                gaps = (gaps[1], gaps[2], gaps[3], ahead)
            before_hi = BORDER
            before_lo = 0.0
            before_tangent = 0.0
            if border_ptr is not None:
                is_passed_on = (first > 0) & (k < num_steps)
                before_hi = tl.load(border_in + k, mask=is_passed_on, other=BORDER)
                if not HARD:
                    before_lo = tl.load(border_in + max_steps + k, mask=is_passed_on, other=0.0)
                if GAMMA_GRADIENT:
                    before_tangent = tl.load(border_in + 2 * max_steps + k, mask=is_passed_on, other=0.0)
            across_hi = from_lane_before(own_hi, lane, before_hi)
            across_lo = zero if HARD else from_lane_before(own_lo, lane, before_lo)
            across_tangent = zero
            if GAMMA_GRADIENT:
                across_tangent = from_lane_before(own_tangent, lane, before_tangent)
            if TRANSPOSED:
                up_hi, up_lo, up_tangent = own_hi, own_lo, own_tangent
                left_hi, left_lo, left_tangent = across_hi, across_lo, across_tangent
            else:
                up_hi, up_lo, up_tangent = across_hi, across_lo, across_tangent
                left_hi, left_lo, left_tangent = own_hi, own_lo, own_tangent
            if IS_COST:
                cell = -cell
            from_diagonal = diagonal_hi
            if RECURRENCE == "lcs":
                is_match = cell > threshold
                cell = tl.where(is_match, cell, 0.0)
                from_diagonal = tl.where(is_match, from_diagonal, EXCLUDED)
                up_hi = tl.where(is_match, EXCLUDED, up_hi)
                left_hi = tl.where(is_match, EXCLUDED, left_hi)
            is_inside = step >= 0
            if bandwidth is not None:
                is_inside &= inside_band(line, step, num_lines, num_steps, bandwidth, TRANSPOSED)
            slot = None
            if weights_ptr is not None:
                slot = weights_slot(weights_ptr, k, line, max_lines, max_steps, HARD)
            if HARD:
                hi, direction = hard_step(cell, gap, from_diagonal, up_hi, left_hi)
                if slot is not None:
                    tl.store(slot, direction, mask=is_cell)
            else:
                hi, lo, w_up, w_left, tangent = soft_step(
                    cell,
                    gap,
                    from_diagonal,
                    diagonal_lo,
                    up_hi,
                    up_lo,
                    left_hi,
                    left_lo,
                    gamma,
                    RECURRENCE == "smooth_dtw",
                    GAMMA_GRADIENT,
                )
                if slot is not None:
                    tl.store(slot, tl.join(w_up, w_left), mask=is_cell[:, None])
                if GAMMA_GRADIENT:
                    tangent += diagonal_tangent + w_up * (up_tangent - diagonal_tangent)
                    tangent += w_left * (left_tangent - diagonal_tangent)
                    own_tangent = tl.where(is_inside, tangent, 0.0)
                    diagonal_tangent = across_tangent
                own_lo = tl.where(is_inside, lo, 0.0)
            own_hi = tl.where(is_inside, hi, BORDER)
            diagonal_hi, diagonal_lo = across_hi, across_lo
            if border_ptr is not None:
                is_last = is_cell & (lane == LANES - 1)
                tl.store(border_out + step, own_hi, mask=is_last)
                if not HARD:
                    tl.store(border_out + max_steps + step, own_lo, mask=is_last)
                if GAMMA_GRADIENT:
                    tl.store(border_out + 2 * max_steps + step, own_tangent, mask=is_last)
        is_end = lane == band_lines - 1
        value = tl.reduce(tl.where(is_end, own_hi + own_lo, 0.0), 0, add)
        value_tangent = tl.reduce(tl.where(is_end, own_tangent, 0.0), 0, add)
    return value, value_tangent


@triton.jit
def adjoint_sweep(
    seed,
    weights_ptr,
    max_lines,
    max_steps,
    cell_gradient_ptr,
    gap_gradient_ptr,
    lane_stride,
    step_stride,
    num_lines,
    num_steps,
    bandwidth,
    border_ptr,
    RECURRENCE: tl.constexpr,
    HARD: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    LANES: tl.constexpr,
    DTYPE: tl.constexpr,
):
    """Store `seed` times the derivatives of one item's value to its cells and gaps, from the stored weights.

    `cell_gradient_ptr`, `gap_gradient_ptr`: those of the item's first cell, both with the given strides; None
    for no gap. What lies beyond the item's lengths is left as it is. The rest is as in `forward_sweep`.
    """
    lane = tl.arange(0, LANES)
    zero = tl.full((LANES,), 0.0, DTYPE)
    num_bands = (num_lines + LANES - 1) // LANES
    for band_from_end in range(0, num_bands):
        band = num_bands - 1 - band_from_end
        first = band * LANES
        line = first + lane
        band_lines = tl.minimum(num_lines - first, LANES)
        start = tl.where(lane < band_lines, lane, FAR)  # the diagonal on which a lane enters the table
        last_diagonal = num_steps + band_lines - 2
        gradient_offset = line.to(tl.int64) * lane_stride - lane.to(tl.int64) * step_stride
        if border_ptr is not None:
            border_out = border_ptr + (band % 2) * max_steps
            border_in = border_ptr + ((band + 1) % 2) * max_steps
            tl.debug_barrier()
        weights = load_last_weights(
            weights_ptr, last_diagonal, line, start, num_steps, max_lines, max_steps, HARD
        )
        # The end of the table gets the seed in the place of a message from the next cell.
        from_own, to_across, to_diagonal = tl.where(line == num_lines - 1, seed + zero, 0.0), zero, zero
        for k_from_end in tl.range(0, last_diagonal + 1, loop_unroll_factor=4):
            k = last_diagonal - k_from_end
            step = k - start
            is_cell = is_within(step, num_steps)
            stored = weights[0]
            ahead = load_weights(weights_ptr, k - 4, line, start, num_steps, max_lines, max_steps, HARD)
            weights = (weights[1], weights[2], weights[3], ahead)
            if HARD:
                w_up, w_left = (stored == 1).to(DTYPE), (stored == 2).to(DTYPE)
            else:
                w_up, w_left = tl.split(stored)
            w_gap = w_up + w_left
            if RECURRENCE == "lcs":  # where it is 0 or 1, but for its rounding
                w_gap = (w_gap > 0.5).to(DTYPE)
            after = 0.0
            if border_ptr is not None:
                last_step = k - (LANES - 1)
                is_passed_on = (band + 1 < num_bands) & is_within(last_step, num_steps)
                after = tl.load(border_in + last_step, mask=is_passed_on, other=0.0)
            adjoint = from_own + from_lane_after(to_across, lane, after, LANES)
            is_reached = is_cell
            if bandwidth is not None:
                is_reached &= inside_band(line, step, num_lines, num_steps, bandwidth, TRANSPOSED)
            adjoint = tl.where(is_reached, adjoint, 0.0)
            offset = tl.cast(k, tl.int64) * step_stride + gradient_offset
            cell_gradient = adjoint
            if RECURRENCE == "lcs":
                cell_gradient = adjoint * (1.0 - w_gap)
            tl.store(cell_gradient_ptr + offset, cell_gradient, mask=is_cell)
            if gap_gradient_ptr is not None:
                tl.store(gap_gradient_ptr + offset, adjoint * w_gap, mask=is_cell)
            from_own = adjoint * (w_up if TRANSPOSED else w_left)
            to_across = to_diagonal + adjoint * (w_left if TRANSPOSED else w_up)
            to_diagonal = adjoint * (1.0 - w_gap)
            if border_ptr is not None:
                tl.store(border_out + k + 0 * lane, to_across, mask=(lane == 0) & (k < num_steps))


@triton.jit
def zero_beyond(gradient_ptr, num_rows, num_columns, rows_in_item, columns_in_item, LANES: tl.constexpr):
    """Store zeros in what lies beyond the item's lengths, in a contiguous num_rows × num_columns."""
    lane = tl.arange(0, LANES)
    for row in range(0, num_rows):
        row_ptr = gradient_ptr + tl.cast(row, tl.int64) * num_columns
        for start in range(tl.where(row < rows_in_item, columns_in_item, 0), num_columns, LANES):
            column = start + lane
            tl.store(row_ptr + column, tl.full((LANES,), 0.0, tl.float32), mask=column < num_columns)
