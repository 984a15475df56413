# mypy: ignore-errors
"""What a lane of a Triton program does at one cell, and how lanes exchange values; for any kernel to call.

Every recurrence is brought to one form, C = cell + smax_γ(C_d, gap + C_u, gap + C_l): costs change sign, and
LCS excludes either the diagonal or the other two.

A soft table is kept as an unevaluated sum of two floats. At γ = 0.01 the rounding of one float, a
ten-thousandth of a table value in the thousands, would already change the weights by percents.
"""

import triton
import triton.language as tl
from triton.language.target_info import is_cuda

EXCLUDED = tl.constexpr(-1e30)  # finite, since 0 · infinity is NaN
FEASIBLE = tl.constexpr(-1e29)  # values below come from an excluded cell
NEGLIGIBLE = tl.constexpr(-2048.0)  # a power of two that is zero in float32 and float64
LN2 = tl.constexpr(0.6931471805599453)


@triton.jit
def add(a, b):
    """For reductions."""
    return a + b


IS_INTERPRETED = tl.constexpr(not isinstance(add, triton.JITFunction))


@triton.jit
def exact_sum(a, b):
    """a + b as rounded, and what the rounding lost (Knuth's TwoSum)."""
    total = a + b
    b_rounded = total - a
    return total, (a - (total - b_rounded)) + (b - b_rounded)


@triton.jit
def from_lane_before(x, lane, fill):
    """Each lane's value of x one lane further; lane 0 takes `fill`."""
    return tl.where(lane > 0, tl.gather(x, tl.maximum(lane - 1, 0), 0), fill)


@triton.jit
def from_lane_after(x, lane, fill, LANES: tl.constexpr):
    """Each lane's value of x one lane back; the last lane takes `fill`."""
    last = LANES - 1
    return tl.where(lane < last, tl.gather(x, tl.minimum(lane + 1, last), 0), fill)


@triton.jit
def fast_log2(x):
    """log2 x within 2^-22 for x in [1, 3], on NVIDIA's GPUs in one instruction instead of two dozen."""
    if not IS_INTERPRETED and is_cuda() and x.dtype == tl.float32:
        return tl.inline_asm_elementwise(
            "lg2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.log2(x)


@triton.jit
def smooth_maximum(diagonal, up, left, EXPECTATION: tl.constexpr, GAMMA_GRADIENT: tl.constexpr):
    """Smooth maximum of three numbers in units of γ·ln 2, the largest of which is 0.

    log2 Σ 2^v, or the expectation Σ p·v with p = softmax(v·ln 2). Returns it, its derivatives to `up` and
    `left` (the three add up to 1) and, where wanted, by how much it grows with γ when put back into units.
    """
    if EXPECTATION or GAMMA_GRADIENT:  # products with them must stay finite
        diagonal = tl.maximum(diagonal, NEGLIGIBLE)
        up = tl.maximum(up, NEGLIGIBLE)
        left = tl.maximum(left, NEGLIGIBLE)
    e_diagonal, e_up, e_left = tl.exp2(diagonal), tl.exp2(up), tl.exp2(left)
    total = e_diagonal + e_up + e_left
    root = tl.rsqrt(total)  # one instruction, where a division takes nine
    normaliser = root * root
    w_up, w_left = e_up * normaliser, e_left * normaliser
    if EXPECTATION or GAMMA_GRADIENT:
        p_diagonal = e_diagonal * normaliser
        mean = p_diagonal * diagonal + w_up * up + w_left * left
    gamma_gradient = 0.0
    if EXPECTATION:
        maximum = mean
        if GAMMA_GRADIENT:
            spread = p_diagonal * (diagonal - mean) * (diagonal - mean)
            spread += w_up * (up - mean) * (up - mean) + w_left * (left - mean) * (left - mean)
            gamma_gradient = -LN2 * LN2 * spread
        w_up *= 1.0 + LN2 * (up - mean)
        w_left *= 1.0 + LN2 * (left - mean)
    else:
        maximum = fast_log2(total)
        if GAMMA_GRADIENT:
            gamma_gradient = LN2 * (maximum - mean)
    return maximum, w_up, w_left, gamma_gradient


@triton.jit
def soft_step(
    cell,
    gap,
    diagonal_hi,
    diagonal_lo,
    up_hi,
    up_lo,
    left_hi,
    left_lo,
    gamma,
    EXPECTATION: tl.constexpr,
    GAMMA_GRADIENT: tl.constexpr,
):
    """One cell of a soft table: its value as hi + lo, w_up, w_left and the local derivative to γ."""
    if gap is not None:
        up_hi, lost = exact_sum(up_hi, gap)
        up_lo += lost
        left_hi, lost = exact_sum(left_hi, gap)
        left_lo += lost
    # Relative to the largest high part, differences that matter are small and so nearly exact.
    base = tl.maximum(diagonal_hi, tl.maximum(up_hi, left_hi))
    diagonal = (diagonal_hi - base) + diagonal_lo
    up = (up_hi - base) + up_lo
    left = (left_hi - base) + left_lo
    largest = tl.maximum(diagonal, tl.maximum(up, left))
    unit = gamma * LN2
    scale = 1.0 / unit
    maximum, w_up, w_left, gamma_gradient = smooth_maximum(
        (diagonal - largest) * scale,
        (up - largest) * scale,
        (left - largest) * scale,
        EXPECTATION,
        GAMMA_GRADIENT,
    )
    total, lost = exact_sum(base, cell)
    rest = lost + (largest + unit * maximum)
    hi = total + rest
    return hi, rest - (hi - total), w_up, w_left, gamma_gradient


@triton.jit
def hard_step(cell, gap, diagonal, up, left):
    """One cell of a hard table: its value, and 0, 1 or 2 for the first largest of diagonal, up and left."""
    if gap is not None:
        up += gap
        left += gap
    not_diagonal = tl.where(left > up, 2, 1)
    largest = tl.maximum(up, left)
    direction = tl.where(largest > diagonal, not_diagonal, 0)
    return cell + tl.maximum(diagonal, largest), direction.to(tl.int8)


@triton.jit
def inside_band(line, step, num_lines, num_steps, bandwidth, TRANSPOSED: tl.constexpr):
    """Whether |row·(M − 1)/max(N − 1, 1) − column| ≤ bandwidth, counted from 0; exact, in integers."""
    row, column = (step, line) if TRANSPOSED else (line, step)
    num_rows, num_columns = (num_steps, num_lines) if TRANSPOSED else (num_lines, num_steps)
    last_row = tl.maximum(num_rows - 1, 1).to(tl.int64)
    deviation = row.to(tl.int64) * (num_columns - 1) - column.to(tl.int64) * last_row
    return tl.abs(deviation) <= bandwidth * last_row
