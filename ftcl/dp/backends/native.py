"""The CPU backend: SIMD kernels in C that are built when the package is installed, if there is a C compiler.

B items, N rows, M columns.
"""

import ctypes
import functools
import importlib.machinery
import struct
from pathlib import Path

import torch
from torch import Tensor

from ftcl.dp._arguments import not_finite, without_padding
from ftcl.dp.backends.problem import TABLE_NAMES, Problem, Solution, Wants

_RECURRENCES = {"soft_dtw": 0, "smooth_dtw": 1, "fsd": 2, "lcs": 3}

# The fields of `struct request` in csrc/request.h, in its order: whole numbers and addresses, then γ and τ.
_pack_request = struct.Struct("@23q2d").pack

# The bits of `enum status` there.
_NOT_FINITE, _OUT_OF_RANGE, _NO_MEMORY, _NO_SUCH_LEVEL = 1, 4, 8, 16


def unavailable(device: torch.device | str = "cpu") -> str | None:
    """Why the backend cannot compute on the device, and what to do; None if it can."""
    if torch.device(device).type != "cpu":
        return f"it computes on the CPU only, not on {device}; pass another backend, or None"
    return _load()[1]


def solve(problem: Problem, wants: Wants) -> Solution:
    """Values and unit gradients of a problem on the CPU; see `Problem` and `Solution`.

    ValueError if a table holds NaN or infinity within lengths. RuntimeError if the backend is unavailable.
    """
    return solve_at(problem, wants, level=-1, num_threads=torch.get_num_threads())


def best_level() -> int:
    """The instruction set that `solve` uses here: 0 any machine, 1 AVX2, 2 AVX-512."""
    return int(_library().ftcl_dp_level())


def solve_at(problem: Problem, wants: Wants, level: int, num_threads: int) -> Solution:
    """`solve` with an instruction set (−1: the best) and a number of threads at most."""
    first = problem.tables[0]
    tables = [_computable(x) for x in problem.tables]
    dtype = tables[0].dtype
    batch, num_rows, num_columns = first.shape
    # Not by torch.empty, which may be set to another device by default.
    value_B = first.new_empty(batch, dtype=dtype)
    gradients: tuple[Tensor, ...] = ()
    gamma_gradient_B = None
    if wants:
        gradients = tuple([first.new_empty(first.shape, dtype=dtype) for _ in tables])
        if wants == Wants.GAMMA_GRADIENT:
            gamma_gradient_B = torch.empty_like(value_B)
    # Held here until the call has returned; the library only sees their addresses.
    gamma_B, gamma = _per_item(problem.gamma, batch)
    threshold_B, threshold = _per_item(problem.threshold, batch)
    lengths_B2 = problem.lengths
    if lengths_B2 is not None:
        lengths_B2 = lengths_B2.to(torch.int64).contiguous()
    bandwidth = -1 if problem.bandwidth is None else min(problem.bandwidth, num_columns)
    second = tables[-1]
    request = _pack_request(
        _RECURRENCES[problem.recurrence],
        dtype is torch.float64,
        problem.is_hard,
        wants,
        level,
        num_threads,
        batch,
        num_rows,
        num_columns,
        bandwidth,
        tables[0].stride(0),
        second.stride(0),
        tables[0].stride(1),
        second.stride(1),
        tables[0].data_ptr(),
        second.data_ptr(),
        _address(lengths_B2),
        _address(gamma_B),
        _address(threshold_B),
        value_B.data_ptr(),
        gradients[0].data_ptr() if wants else 0,
        gradients[-1].data_ptr() if wants else 0,
        _address(gamma_gradient_B),
        gamma,
        threshold,
    )
    status = _library().ftcl_dp_solve(request)
    if status:
        if status == _OUT_OF_RANGE:
            return _solve_in_float64(problem, wants, level, num_threads)
        _raise(status, problem)
    return Solution(value_B, gradients, gamma_gradient_B)


def _computable(x_BNM: Tensor) -> Tensor:
    """The table in its compute dtype, with the cells of a row side by side."""
    if x_BNM.dtype is torch.bfloat16:
        x_BNM = x_BNM.float()
    return x_BNM if x_BNM.stride(2) == 1 else x_BNM.contiguous()


def _per_item(value: float | Tensor, batch: int) -> tuple[Tensor | None, float]:
    """A tensor of one number per item, or None and the number for all of them."""
    if not isinstance(value, Tensor):
        return None, value
    return value.detach().to(torch.float64).expand(batch).contiguous(), 0.0


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _solve_in_float64(problem: Problem, wants: Wants, level: int, num_threads: int) -> Solution:
    """For tables so large beside γ that float32 kernels cannot hold them."""
    tables = tuple([x.double() for x in problem.tables])
    threshold = problem.threshold
    if problem.recurrence == "lcs":
        # Rounded as it is for the comparison in float32.
        threshold = torch.as_tensor(threshold, device="cpu").float().double()
    exact = Problem(problem.recurrence, tables, problem.gamma, threshold, problem.lengths, problem.bandwidth)
    value_B, gradients, gamma_gradient_B = solve_at(exact, wants, level, num_threads)
    return Solution(
        value_B.float(),
        tuple([x.float() for x in gradients]),
        None if gamma_gradient_B is None else gamma_gradient_B.float(),
    )


def _raise(status: int, problem: Problem) -> None:
    if status & _NO_MEMORY:
        raise MemoryError("the native backend got no memory for its tables")
    if status & _NO_SUCH_LEVEL:
        raise ValueError(f"level must be at most {best_level()} on this machine")
    for name, x in zip(TABLE_NAMES[problem.recurrence], problem.tables, strict=True):
        if not without_padding(x, problem.lengths).isfinite().all():
            raise not_finite(name)
    raise AssertionError(f"the native backend returned {status}")


def _library() -> ctypes.CDLL:
    library, reason = _load()
    if library is None:
        raise RuntimeError(f"the native backend cannot be used: {reason}")
    return library


@functools.cache
def _load() -> tuple[ctypes.CDLL | None, str | None]:
    """The library, or why there is none."""
    fix = (
        "install a C compiler (on Debian and Ubuntu the package gcc) and install this package again: "
        "python -m pip install --no-build-isolation -e ."
    )
    folder = Path(__file__).parent
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    path = next((path for suffix in suffixes if (path := folder / f"_native{suffix}").exists()), None)
    if path is None:
        return None, f"its library was not built; {fix}"
    try:
        library = ctypes.CDLL(str(path))
        library.ftcl_dp_solve.argtypes = [ctypes.c_char_p]
        library.ftcl_dp_solve.restype = ctypes.c_int64
        library.ftcl_dp_level.argtypes = []
        library.ftcl_dp_level.restype = ctypes.c_int64
    except (OSError, AttributeError) as error:
        return None, f"its library cannot be loaded ({error}); {fix}"
    return library, None
