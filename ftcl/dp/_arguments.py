"""Checks and conversions of arguments that every recurrence shares.

Shapes, dtypes, devices and plain numbers are checked always. The contents of a tensor are checked on the CPU
always, on another device only on request, because looking at them makes the host wait for the device.

B items, N rows, M columns.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import TypeVar

import torch
from torch import Tensor

Backend = TypeVar("Backend")

_COMPUTE_DTYPE = {
    torch.float64: torch.float64,
    torch.float32: torch.float32,
    # Eight bits of mantissa cannot hold a sum along a path.
    torch.bfloat16: torch.float32,
}


def to_compute_dtype(name: str, x: Tensor) -> Tensor:
    """A float tensor in the dtype that it is computed in; ValueError for any other kind of argument."""
    if not isinstance(x, Tensor):
        raise ValueError(f"{name} must be a tensor, got {type(x).__name__}")
    if x.dtype not in _COMPUTE_DTYPE:
        allowed = ", ".join(str(dtype) for dtype in _COMPUTE_DTYPE)
        raise ValueError(f"{name} has dtype {x.dtype}; convert it to one of {allowed}")
    return x.to(_COMPUTE_DTYPE[x.dtype])


def check_same(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    """ValueError unless both tensors have one dtype and device."""
    if x.dtype != other.dtype:
        raise ValueError(
            f"{name} has dtype {x.dtype} but {other_name} has {other.dtype}; convert one of them"
        )
    _check_device(name, x, other)


def tables(
    named_BNM: Mapping[str, Tensor], lengths_B2: Tensor | None, check: bool
) -> tuple[list[Tensor], Tensor | None]:
    """Tables of one shape in their compute dtype with zeros for padding, and the lengths as int64.

    Zeros, since a NaN in the padding would survive the multiplication with a zero adjoint.
    """
    (first_name, first), *others = named_BNM.items()
    tables_BNM = [to_compute_dtype(name, x) for name, x in named_BNM.items()]
    if first.ndim != 3 or first.shape[1] < 1 or first.shape[2] < 1:
        raise ValueError(
            f"{first_name} must have shape (B, N, M) with N and M at least 1, got {tuple(first.shape)}"
        )
    for name, x in others:
        if x.shape != first.shape:
            raise ValueError(
                f"{name} must have the shape of {first_name}, {tuple(first.shape)}, got {tuple(x.shape)}"
            )
        check_same(name, x, first_name, first)
    if lengths_B2 is not None:
        lengths_B2 = _lengths(lengths_B2, first, check)
        padding_BNM = _padding(lengths_B2, first.shape)
        tables_BNM = [x.masked_fill(padding_BNM, 0.0) for x in tables_BNM]
    if _looks_at_values(first, check):
        for name, x in zip(named_BNM, tables_BNM, strict=True):
            if not torch.isfinite(x).all():
                raise ValueError(f"{name} must be finite within lengths, but holds NaN or infinity")
    return tables_BNM, lengths_B2


def gamma_per_item(gamma: float | Tensor, table_BNM: Tensor, check: bool) -> Tensor | None:
    """Temperatures γ of shape (B,), or None for the number 0, which asks for the hard maximum.

    A γ so small that scores divided by it may overflow is refused like a negative one.
    """
    if isinstance(gamma, Real) and not isinstance(gamma, bool) and gamma == 0:
        return None
    smallest = math.sqrt(torch.finfo(table_BNM.dtype).tiny)
    hint = f"finite and at least {smallest:.1e}, or the number 0 for the hard maximum"
    return _per_item("gamma", gamma, table_BNM, check, smallest, hint)


def threshold_per_item(threshold: float | Tensor, table_BNM: Tensor, check: bool) -> Tensor:
    """Thresholds of shape (B,); no gradient goes to them."""
    smallest = torch.finfo(table_BNM.dtype).min
    return _per_item("threshold", threshold, table_BNM, check, smallest, "finite").detach()


def choose_backend(backends: Mapping[str, Backend], backend: str | None) -> Backend:
    """The named implementation, or the default one for None."""
    name = "torch" if backend is None else backend
    if name not in backends:
        raise ValueError(f"backend must be one of {', '.join(sorted(backends))}, got {backend!r}")
    return backends[name]


def _per_item(
    name: str, value: float | Tensor, table_BNM: Tensor, check: bool, smallest: float, hint: str
) -> Tensor:
    batch = table_BNM.shape[0]
    largest = torch.finfo(table_BNM.dtype).max
    if not isinstance(value, Tensor):
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError(f"{name} must be a number or a tensor, got {value!r}")
        if not smallest <= value <= largest:
            raise ValueError(f"{name} must be {hint}, got {value!r}")
        return table_BNM.new_full((batch,), float(value))
    if not value.is_floating_point():
        raise ValueError(f"{name} has dtype {value.dtype}; convert it to a float dtype")
    if value.shape not in ((), (batch,)):
        raise ValueError(f"{name} must have shape () or ({batch},), got {tuple(value.shape)}")
    _check_device(name, value, table_BNM)
    # Compared in the dtype of the table: in a narrower one the bounds themselves may round to 0 or infinity.
    value = value.to(table_BNM.dtype)
    if _looks_at_values(table_BNM, check) and not ((value >= smallest) & (value <= largest)).all():
        raise ValueError(f"{name} must be {hint}, got {value.tolist()}")
    return value.expand(batch)


def _lengths(lengths_B2: Tensor, table_BNM: Tensor, check: bool) -> Tensor:
    batch, num_rows, num_columns = table_BNM.shape
    if not isinstance(lengths_B2, Tensor):
        raise ValueError(f"lengths must be an integer tensor, got {type(lengths_B2).__name__}")
    if lengths_B2.dtype not in (torch.int16, torch.int32, torch.int64):
        raise ValueError(f"lengths has dtype {lengths_B2.dtype}; convert it to torch.int64")
    if lengths_B2.shape != (batch, 2):
        raise ValueError(f"lengths must have shape ({batch}, 2), got {tuple(lengths_B2.shape)}")
    _check_device("lengths", lengths_B2, table_BNM)
    if _looks_at_values(table_BNM, check):
        for column, limit in enumerate((num_rows, num_columns)):
            length_B = lengths_B2[:, column]
            bad = ((length_B < 1) | (length_B > limit)).nonzero()
            if len(bad):
                item = int(bad[0, 0])
                raise ValueError(
                    f"lengths[{item}, {column}] must be in [1, {limit}], got {int(length_B[item])}"
                )
    return lengths_B2.long()


def _padding(lengths_B2: Tensor, shape: torch.Size) -> Tensor:
    _, num_rows, num_columns = shape
    row_N = torch.arange(num_rows, device=lengths_B2.device)
    column_M = torch.arange(num_columns, device=lengths_B2.device)
    past_rows_BN = row_N >= lengths_B2[:, :1]
    past_columns_BM = column_M >= lengths_B2[:, 1:]
    return past_rows_BN[:, :, None] | past_columns_BM[:, None, :]


def _check_device(name: str, x: Tensor, other: Tensor) -> None:
    if x.device != other.device:
        raise ValueError(f"{name} is on {x.device} but must be on {other.device}; move it there")


def _looks_at_values(x: Tensor, check: bool) -> bool:
    return check or x.device.type == "cpu"
