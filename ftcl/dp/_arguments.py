"""Checks of arguments that every recurrence shares.

Shapes, dtypes, devices and plain numbers are checked when a function is called. The contents of tensors are
looked at by `check_contents`: on the CPU always, on another device only on request, because there the host
would have to wait.

B items, N rows, M columns.
"""

import math
from numbers import Integral, Real

import torch
from torch import Tensor

from ftcl.dp.backends.problem import TABLE_NAMES, Problem, Recurrence

_COMPUTE_DTYPE = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    # Eight bits of mantissa cannot hold a sum along a path.
    torch.bfloat16: torch.float32,
}
_LIMITS = {dtype: torch.finfo(dtype) for dtype in _COMPUTE_DTYPE.values()}


def to_compute_dtype(name: str, x: Tensor) -> Tensor:
    """A float tensor in the dtype that it is computed in; ValueError for any other kind of argument."""
    check_float(name, x)
    return x.to(_COMPUTE_DTYPE[x.dtype])


def check_float(name: str, x: Tensor) -> None:
    """ValueError unless x is a tensor of a dtype that can be computed in."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.layout != torch.strided:
        raise ValueError(f"{name} has the layout {x.layout}; make it dense by to_dense()")
    if x.dtype not in _COMPUTE_DTYPE:
        allowed = ", ".join(str(dtype) for dtype in _COMPUTE_DTYPE)
        raise ValueError(f"{name} has dtype {x.dtype}; convert it to one of {allowed}")


def check_same(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """ValueError unless both tensors have one dtype and device."""
    if x.dtype != other.dtype:
        raise ValueError(
            f"{name} has dtype {x.dtype} but {other_name} has {other.dtype}; convert one of them"
        )
    _check_device(name, x, other)


def make_problem(
    recurrence: Recurrence,
    tables: tuple[Tensor, ...],
    gamma: float | Tensor,
    lengths: Tensor | None,
    *,
    threshold: float | Tensor = 0.0,
    bandwidth: int | None = None,
) -> Problem:
    """The arguments of a call as a problem; ValueError naming the first that is malformed."""
    names = TABLE_NAMES[recurrence]
    first = tables[0]
    for name, x in zip(names, tables, strict=True):
        check_float(name, x)
    if first.ndim != 3 or first.shape[1] < 1 or first.shape[2] < 1:
        raise ValueError(
            f"{names[0]} must have shape (B, N, M) with N and M at least 1, got {tuple(first.shape)}"
        )
    for name, x in zip(names[1:], tables[1:], strict=True):
        if x.shape != first.shape:
            raise ValueError(
                f"{name} must have the shape of {names[0]}, {tuple(first.shape)}, got {tuple(x.shape)}"
            )
        check_same(name, x, names[0], first)
    if lengths is not None:
        _check_lengths(lengths, first)
    return Problem(
        recurrence,
        tables,
        _number_or_tensor("gamma", gamma, first),
        _number_or_tensor("threshold", threshold, first),
        lengths,
        None if bandwidth is None else _columns_of_band(bandwidth, first),
    )


def check_contents(problem: Problem, *, tables: bool = True) -> None:
    """ValueError naming the tensor that holds a value out of its range; `tables`: look at the tables too."""
    first = problem.tables[0]
    if problem.lengths is not None:
        for column, limit in enumerate(first.shape[1:]):
            length_B = problem.lengths[:, column]
            bad = ((length_B < 1) | (length_B > limit)).nonzero()
            if len(bad):
                item = int(bad[0, 0])
                raise ValueError(
                    f"lengths[{item}, {column}] must be in [1, {limit}], got {int(length_B[item])}"
                )
    for name, value in (("gamma", problem.gamma), ("threshold", problem.threshold)):
        if isinstance(value, Tensor):
            smallest, largest, hint = _bounds(name, first)
            # Compared in the dtype of the table: in a narrower one the bounds themselves may round to 0.
            wide = value.to(_COMPUTE_DTYPE[first.dtype])
            bad = ~((wide >= smallest) & (wide <= largest))
            if bad.any():
                place = f"[{int(bad.nonzero()[0, 0])}]" if bad.ndim else ""
                raise ValueError(f"{name}{place} must be {hint}, got {value[bad].flatten()[0].item()}")
    if tables:
        for name, x in zip(TABLE_NAMES[problem.recurrence], problem.tables, strict=True):
            # A sum is one cheap pass, and finite only if every cell is; if it is not, look closely.
            if not x.sum().isfinite() and not without_padding(x, problem.lengths).isfinite().all():
                raise not_finite(name)


def not_finite(name: str) -> ValueError:
    """The error for a table with a cell that is no number."""
    return ValueError(f"{name} must be finite within lengths, but holds NaN or infinity")


def compute_tables(problem: Problem) -> list[Tensor]:
    """The tables in their compute dtype, with zeros for padding.

    Zeros, since a NaN in the padding would survive the multiplication with a zero adjoint.
    """
    return [without_padding(x.to(_COMPUTE_DTYPE[x.dtype]), problem.lengths) for x in problem.tables]


def without_padding(x_BNM: Tensor, lengths_B2: Tensor | None) -> Tensor:
    """The table with zeros beyond lengths."""
    if lengths_B2 is None:
        return x_BNM
    row_N, column_M = (torch.arange(n, device=lengths_B2.device) for n in x_BNM.shape[1:])
    past_rows_BN = row_N >= lengths_B2[:, :1]
    past_columns_BM = column_M >= lengths_B2[:, 1:]
    return x_BNM.masked_fill(past_rows_BN[:, :, None] | past_columns_BM[:, None, :], 0.0)


def per_item(value: float | Tensor, like: Tensor) -> Tensor:
    """A number or a tensor () or (B,) as a tensor (B,) of the dtype of another with B items."""
    batch = like.shape[0]
    if isinstance(value, Tensor):
        return value.to(like.dtype).expand(batch)
    return like.new_full((batch,), value)


def temperature(problem: Problem) -> Tensor | None:
    """γ of each item, (B,), in the compute dtype; None for the number 0."""
    if problem.is_hard:
        return None
    first = problem.tables[0]
    return per_item(problem.gamma, first.new_empty(first.shape[0], dtype=_COMPUTE_DTYPE[first.dtype]))


def is_outside_band(problem: Problem) -> Tensor:
    """Which cells lie outside the Sakoe-Chiba band, (B, N, M) or (1, N, M).

    The band follows the diagonal of each item's own lengths. Multiplied out, so that no quotient is rounded.
    """
    first = problem.tables[0]
    _, num_rows, num_columns = first.shape
    lengths = problem.lengths
    if lengths is None:
        lengths = torch.tensor([[num_rows, num_columns]], device=first.device)
    row_span_B11, column_span_B11 = (lengths.long() - 1)[:, :, None, None].unbind(1)
    row_N1 = torch.arange(num_rows, device=first.device)[:, None]
    column_M = torch.arange(num_columns, device=first.device)
    row_span_B11 = row_span_B11.clamp(min=1)
    assert problem.bandwidth is not None
    return (row_N1 * column_span_B11 - column_M * row_span_B11).abs() > problem.bandwidth * row_span_B11


def _number_or_tensor(name: str, value: float | Tensor, table_BNM: Tensor) -> float | Tensor:
    if isinstance(value, Tensor):
        if not value.is_floating_point():
            raise ValueError(f"{name} has dtype {value.dtype}; convert it to a float dtype")
        batch = table_BNM.shape[0]
        if value.shape not in ((), (batch,)):
            raise ValueError(f"{name} must have shape () or ({batch},), got {tuple(value.shape)}")
        _check_device(name, value, table_BNM)
        return value
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} must be a number or a tensor, got {value!r}")
    smallest, largest, hint = _bounds(name, table_BNM)
    if not (smallest <= value <= largest or (name == "gamma" and value == 0)):
        raise ValueError(f"{name} must be {hint}, got {value!r}")
    return float(value)


def _bounds(name: str, table_BNM: Tensor) -> tuple[float, float, str]:
    """Least and greatest value of a parameter, and what to tell about them.

    A γ so small that scores divided by it may overflow is refused like a negative one.
    """
    limits = _LIMITS[_COMPUTE_DTYPE[table_BNM.dtype]]
    if name == "threshold":
        return limits.min, limits.max, "finite"
    smallest = math.sqrt(limits.tiny)
    return smallest, limits.max, f"finite and at least {smallest:.1e}, or the number 0 for the hard maximum"


def _columns_of_band(bandwidth: int, table_BNM: Tensor) -> int:
    if not isinstance(bandwidth, Integral) or isinstance(bandwidth, bool) or bandwidth < 0:
        raise ValueError(f"bandwidth must be an integer of at least 0, or None, got {bandwidth!r}")
    # As wide as the table is as good as any wider one, and its products with N do not overflow.
    return min(int(bandwidth), table_BNM.shape[2])


def _check_lengths(lengths_B2: Tensor, table_BNM: Tensor) -> None:
    batch = table_BNM.shape[0]
    if not isinstance(lengths_B2, Tensor):
        raise ValueError(f"lengths must be an integer tensor, got {type(lengths_B2).__name__}")
    if lengths_B2.dtype not in (torch.int16, torch.int32, torch.int64):
        raise ValueError(f"lengths has dtype {lengths_B2.dtype}; convert it to torch.int64")
    if lengths_B2.shape != (batch, 2):
        raise ValueError(f"lengths must have shape ({batch}, 2), got {tuple(lengths_B2.shape)}")
    _check_device("lengths", lengths_B2, table_BNM)


def _check_device(name: str, x: Tensor, other: Tensor) -> None:
    if x.device != other.device:
        raise ValueError(f"{name} is on {x.device} but must be on {other.device}; move it there")
