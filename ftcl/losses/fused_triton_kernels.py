# mypy: ignore-errors
"""Triton kernels of the fused contrasts: products of rows, tables and contrast, gradient to the rows.

Sequences 0..B-1 are the first members of the pairs, B..2B-1 the second ones. Contiguous arrays of B pairs, L
rows, H ranges of channels and S splits of a range: partial (H, B, S, L, L), square (H, 2B, S, L), similarity
and unit (H, B, L, L), reciprocal norms (H, 2B, L), chosen (2B, L).
"""

import triton
import triton.language as tl

from ftcl.dp.backends.triton_steps import add
from ftcl.dp.backends.triton_sweeps import adjoint_sweep, forward_sweep

# Of a norm that `ftcl.dp.cosine_similarity` does not take for zero.
SMALLEST_SQUARE = tl.constexpr(64 * 2.0**-126)


@triton.jit
def row_offsets(chosen_ptr, item, row, num_rows, row_stride, length):
    """Where the rows of a sequence begin, those that are chosen or `row` itself, and which it has."""
    index = row.to(tl.int64)
    if chosen_ptr is not None:
        index = tl.load(chosen_ptr + item * num_rows + row, mask=row < num_rows, other=0)
    return index * row_stride, (index >= 0) & (index < length)


@triton.jit
def load_rows(rows_ptr, offset, is_there, is_row, channel, channel_stride, channels_end):
    """Rows × channels, zero outside. A chosen row that the sequence lacks is NaN, which nobody overlooks."""
    address = rows_ptr + offset[:, None] + channel.to(tl.int64)[None, :] * channel_stride
    mask = (is_row & is_there)[:, None] & (channel < channels_end)[None, :]
    rows = tl.load(address, mask=mask, other=0.0)
    return tl.where((is_there | (is_row == 0))[:, None], rows, float("nan"))


@triton.jit
def products_kernel(
    rows_ptr,
    item_stride,
    row_stride,
    channel_stride,
    chosen_ptr,
    length,
    num_pairs,
    num_rows,
    first_range_end,
    num_channels,
    num_splits,
    partial_ptr,
    square_ptr,
    TILE: tl.constexpr,
    CHANNELS: tl.constexpr,
    SPLIT: tl.constexpr,
):
    """x · y over a split of a range of channels, for a tile of a pair's rows, and their squared norms.

    Grid: B · H · S, tiles of x, tiles of y.
    """
    split = tl.program_id(0) % num_splits
    pair = (tl.program_id(0) // num_splits % num_pairs).to(tl.int64)
    number = tl.program_id(0) // num_splits // num_pairs
    begin = tl.where(number == 0, 0, first_range_end) + split * SPLIT
    end = tl.where(number == 0, first_range_end, num_channels)
    x_row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    y_row = tl.program_id(2) * TILE + tl.arange(0, TILE)
    x_item, y_item = pair, pair + num_pairs
    x_offset, has_x = row_offsets(chosen_ptr, x_item, x_row, num_rows, row_stride, length)
    y_offset, has_y = row_offsets(chosen_ptr, y_item, y_row, num_rows, row_stride, length)
    x_ptr, y_ptr = rows_ptr + x_item * item_stride, rows_ptr + y_item * item_stride
    is_x, is_y = x_row < num_rows, y_row < num_rows
    product = tl.full((TILE, TILE), 0.0, tl.float32)
    x_square = tl.full((TILE, CHANNELS), 0.0, tl.float32)
    y_square = tl.full((TILE, CHANNELS), 0.0, tl.float32)
    for start in range(0, SPLIT, CHANNELS):
        channel = begin + start + tl.arange(0, CHANNELS)
        x = load_rows(x_ptr, x_offset, has_x, is_x, channel, channel_stride, end)
        y = load_rows(y_ptr, y_offset, has_y, is_y, channel, channel_stride, end)
        # Tensor cores would round to ten bits of mantissa, too coarse for a threshold such as 0.92.
        product = tl.dot(x, tl.trans(y), product, input_precision="ieee")
        x_square += x * x
        y_square += y * y
    place = (number * num_pairs + pair) * num_splits + split
    cell = x_row[:, None] * num_rows + y_row[None, :]
    tl.store(partial_ptr + place * num_rows * num_rows + cell, product, mask=is_x[:, None] & is_y[None, :])
    item = number * 2 * num_pairs + pair
    if tl.program_id(2) == 0:
        place = (item * num_splits + split) * num_rows
        tl.store(square_ptr + place + x_row, tl.reduce(x_square, 1, add), mask=is_x)
    if tl.program_id(1) == 0:
        place = ((item + num_pairs) * num_splits + split) * num_rows
        tl.store(square_ptr + place + y_row, tl.reduce(y_square, 1, add), mask=is_y)


@triton.jit
def sum_splits(ptr, size, offset, mask, num_splits):
    """Σ over the splits, each an array of `size` numbers."""
    total = tl.load(ptr + offset, mask=mask, other=0.0)
    for split in range(1, num_splits):
        total += tl.load(ptr + split * size + offset, mask=mask, other=0.0)
    return total


@triton.jit
def pair_weight(is_positive_ptr, pair, num_pairs, BLOCK: tl.constexpr):
    """1 / number of negative pairs for a negative pair, −1 / number of positive pairs for a positive one."""
    count = tl.full((BLOCK,), 0, tl.int32)
    for start in range(0, num_pairs, BLOCK):
        index = start + tl.arange(0, BLOCK)
        count += tl.load(is_positive_ptr + index, mask=index < num_pairs, other=0).to(tl.int32)
    num_positive = tl.reduce(count, 0, add)
    if tl.load(is_positive_ptr + pair) != 0:
        weight = -1.0 / num_positive.to(tl.float32)
    else:
        weight = 1.0 / (num_pairs - num_positive).to(tl.float32)
    return weight


@triton.jit
def contrast_kernel(
    partial_ptr,
    square_ptr,
    num_splits,
    is_positive_ptr,
    num_pairs,
    num_rows,
    gamma,
    threshold,
    similarity_ptr,
    reciprocal_norm_ptr,
    weighted_value_ptr,
    unit_ptr,
    weights_ptr,
    border_ptr,
    RECURRENCE: tl.constexpr,
    HARD: tl.constexpr,
    NUM_RANGES: tl.constexpr,
    TILE: tl.constexpr,
    LANES: tl.constexpr,
):
    """A pair's similarities, its value times its weight in the contrast, and the derivatives of that.

    `unit_ptr`, `weights_ptr`: None if the value is all that is wanted; for `weights_ptr` and `border_ptr` see
    `forward_sweep`. Grid: B.
    """
    pair = tl.program_id(0).to(tl.int64)
    num_cells = num_rows * num_rows
    poison = tl.full((), 0.0, tl.float32)  # NaN if a row is, which a comparison with a threshold would hide
    for number in tl.static_range(NUM_RANGES):
        for member in tl.static_range(2):
            item = (number * 2 + member) * num_pairs + pair
            for start in range(0, num_rows, TILE):
                row = start + tl.arange(0, TILE)
                is_row = row < num_rows
                square = sum_splits(
                    square_ptr + item * num_splits * num_rows, num_rows, row, is_row, num_splits
                )
                poison += tl.reduce(tl.where(is_row, square, 0.0) * 0.0, 0, add)
                is_zero = square < SMALLEST_SQUARE
                reciprocal = tl.where(is_zero, 0.0, 1.0 / tl.sqrt_rn(tl.where(is_zero, 1.0, square)))
                tl.store(reciprocal_norm_ptr + item * num_rows + row, reciprocal, mask=is_row)
    # Other threads than those that stored a number load it.
    tl.debug_barrier()
    for number in tl.static_range(NUM_RANGES):
        place = number * num_pairs + pair
        x_norm_ptr = reciprocal_norm_ptr + (number * 2 * num_pairs + pair) * num_rows
        y_norm_ptr = x_norm_ptr + num_pairs * num_rows
        for x_start in range(0, num_rows, TILE):
            x_row = x_start + tl.arange(0, TILE)
            x_norm = tl.load(x_norm_ptr + x_row, mask=x_row < num_rows, other=0.0)
            for y_start in range(0, num_rows, TILE):
                y_row = y_start + tl.arange(0, TILE)
                y_norm = tl.load(y_norm_ptr + y_row, mask=y_row < num_rows, other=0.0)
                cell = x_row[:, None] * num_rows + y_row[None, :]
                is_cell = (x_row < num_rows)[:, None] & (y_row < num_rows)[None, :]
                product = sum_splits(
                    partial_ptr + place * num_splits * num_cells, num_cells, cell, is_cell, num_splits
                )
                similarity = product * x_norm[:, None] * y_norm[None, :]
                tl.store(similarity_ptr + place * num_cells + cell, similarity, mask=is_cell)
    tl.debug_barrier()
    first_ptr = similarity_ptr + pair * num_cells
    gap_ptr = None
    if NUM_RANGES == 2:
        gap_ptr = first_ptr + num_pairs * num_cells
    if weights_ptr is not None:
        weights_ptr += pair * num_cells * (1 if HARD else 2)
    if border_ptr is not None:
        border_ptr += pair * 6 * num_rows
    value, _ = forward_sweep(
        first_ptr,
        num_rows,
        1,
        gap_ptr,
        num_rows,
        1,
        num_rows,
        num_rows,
        tl.full((), gamma, tl.float32),
        tl.full((), threshold, tl.float32),
        None,
        weights_ptr,
        num_rows,
        num_rows,
        border_ptr,
        RECURRENCE,
        HARD,
        False,
        False,
        LANES,
        tl.float32,
    )
    weight = pair_weight(is_positive_ptr, pair, num_pairs, LANES)
    tl.store(weighted_value_ptr + pair, weight * value + poison)
    if unit_ptr is not None:
        tl.debug_barrier()
        unit_ptr += pair * num_cells
        gap_unit_ptr = None
        if NUM_RANGES == 2:
            gap_unit_ptr = unit_ptr + num_pairs * num_cells
        adjoint_sweep(
            weight,
            weights_ptr,
            num_rows,
            num_rows,
            unit_ptr,
            gap_unit_ptr,
            num_rows,
            1,
            num_rows,
            num_rows,
            None,
            border_ptr,
            RECURRENCE,
            HARD,
            False,
            LANES,
            tl.float32,
        )


@triton.jit
def row_gradient_kernel(
    rows_ptr,
    item_stride,
    row_stride,
    channel_stride,
    chosen_ptr,
    length,
    num_pairs,
    num_rows,
    first_range_end,
    num_channels,
    similarity_ptr,
    reciprocal_norm_ptr,
    unit_ptr,
    grad_ptr,
    gradient_ptr,
    to_item_stride,
    to_row_stride,
    to_channel_stride,
    TILE: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Gradient to a tile of a sequence's rows over some channels of a range: added where chosen, else stored.

    With G the derivative to the similarities s: dx_i = Σ_j G_ij/(|x_i||y_j|) y_j − x_i/|x_i|² Σ_j G_ij s_ij.
    Grid: 2B · H, tiles of rows, pieces of the longest range.
    """
    item = (tl.program_id(0) % (2 * num_pairs)).to(tl.int64)
    number = tl.program_id(0) // (2 * num_pairs)
    is_first = item < num_pairs
    pair = tl.where(is_first, item, item - num_pairs)
    other_item = tl.where(is_first, item + num_pairs, item - num_pairs)
    begin = tl.where(number == 0, 0, first_range_end)
    end = tl.where(number == 0, first_range_end, num_channels)
    channel = begin + tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    row = tl.program_id(1) * TILE + tl.arange(0, TILE)
    is_row = row < num_rows
    norm_ptr = reciprocal_norm_ptr + number * 2 * num_pairs * num_rows
    norm = tl.load(norm_ptr + item * num_rows + row, mask=is_row, other=0.0)
    table = (number * num_pairs + pair) * num_rows * num_rows
    cell_row_stride = tl.where(is_first, num_rows, 1)
    cell_column_stride = tl.where(is_first, 1, num_rows)

    gradient = tl.full((TILE, CHANNELS), 0.0, tl.float32)
    weighted = tl.full((TILE, TILE), 0.0, tl.float32)
    for start in range(0, num_rows, TILE):
        other_row = start + tl.arange(0, TILE)
        is_other = other_row < num_rows
        cell = table + row[:, None] * cell_row_stride + other_row[None, :] * cell_column_stride
        is_cell = is_row[:, None] & is_other[None, :]
        unit = tl.load(unit_ptr + cell, mask=is_cell, other=0.0)
        weighted += unit * tl.load(similarity_ptr + cell, mask=is_cell, other=0.0)
        other_norm = tl.load(norm_ptr + other_item * num_rows + other_row, mask=is_other, other=0.0)
        offset, has_other = row_offsets(chosen_ptr, other_item, other_row, num_rows, row_stride, length)
        other_ptr = rows_ptr + other_item * item_stride
        other = load_rows(other_ptr, offset, has_other, is_other, channel, channel_stride, end)
        unit *= norm[:, None] * other_norm[None, :]
        gradient = tl.dot(unit, other, gradient, input_precision="ieee")
    offset, has_row = row_offsets(chosen_ptr, item, row, num_rows, row_stride, length)
    own = load_rows(rows_ptr + item * item_stride, offset, has_row, is_row, channel, channel_stride, end)
    shrink = tl.reduce(weighted, 1, add) * norm * norm
    gradient = (gradient - shrink[:, None] * own) * tl.load(grad_ptr)

    to_offset, _ = row_offsets(chosen_ptr, item, row, num_rows, to_row_stride, length)
    to_channel = channel.to(tl.int64) * to_channel_stride
    address = gradient_ptr + item * to_item_stride + to_offset[:, None] + to_channel[None, :]
    mask = (is_row & has_row)[:, None] & (channel < end)[None, :]
    if chosen_ptr is not None:
        # A row may be chosen twice, and the tile of another program may have it too.
        tl.atomic_add(address, gradient, mask=mask, sem="relaxed")
    else:
        tl.store(address, gradient, mask=mask)
