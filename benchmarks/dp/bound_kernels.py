# mypy: ignore-errors
"""Chains of the dependent operations that no kernel for these recurrences can do without, step by step."""

import triton
import triton.language as tl

from ftcl.dp.backends.triton_steps import fast_log2, from_lane_after, from_lane_before


@triton.jit
def soft_chain(out_ptr, num_steps, LANES: tl.constexpr):
    """One exchange between lanes and one smooth maximum of three numbers a step."""
    lane = tl.arange(0, LANES)
    value = lane.to(tl.float32)
    diagonal = value
    for _ in range(0, num_steps):
        across = from_lane_before(value, lane, 0.0)
        largest = tl.maximum(diagonal, tl.maximum(across, value))
        total = tl.exp2(diagonal - largest) + tl.exp2(across - largest) + tl.exp2(value - largest)
        value = largest + fast_log2(total)
        diagonal = across
    tl.store(out_ptr + lane, value)


@triton.jit
def hard_chain(out_ptr, num_steps, LANES: tl.constexpr):
    """One exchange between lanes, maxima and one addition a step."""
    lane = tl.arange(0, LANES)
    value = lane.to(tl.float32)
    for _ in range(0, num_steps):
        value = tl.maximum(value, from_lane_before(value, lane, 0.0)) + 1.0
    tl.store(out_ptr + lane, value)


@triton.jit
def adjoint_chain(out_ptr, num_steps, LANES: tl.constexpr):
    """One exchange between lanes, one product and one addition a step."""
    lane = tl.arange(0, LANES)
    value = lane.to(tl.float32)
    for _ in range(0, num_steps):
        value = 0.5 * value + from_lane_after(value, lane, 0.0, LANES)
    tl.store(out_ptr + lane, value)
