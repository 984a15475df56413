"""Who takes part: other packages, the plain loops, a prototype, and the backends of ftcl.dp.

Every one gets the same table of costs or similarities, so that all solve the same problem. Packages are
imported when they are first needed: a missing one is named in the results and stops nothing.
"""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.dp import plain_loops
from benchmarks.dp.cases import CONTRASTS, TABLES, THRESHOLD, Case, chosen_rows, is_positive

Kind = Literal["peer", "loops", "prototype", "ours"]
Values = Callable[..., Tensor]

MAX_LOOP_CELLS = 16 * 30 * 30  # of all tables together: seconds a call with one operation per cell


class Unavailable(Exception):
    """Why a contender does not run a case, in a few words."""


@dataclass(frozen=True)
class Contender:
    """`build` makes the function of a case, from its inputs to values, or raises Unavailable.

    `overwrites_inputs`: it writes into what it is given, so each call gets a copy, made before it is timed.
    """

    name: str
    kind: Kind
    functions: tuple[str, ...]
    build: Callable[[Case, torch.device], Values]
    overwrites_inputs: bool = False


def _import(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise Unavailable(f"cannot import {name}: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]


def _pysdtw(case: Case, device: torch.device) -> Values:
    pysdtw = _import("pysdtw")
    return _with_given_costs(partial(pysdtw.SoftDTW, gamma=case.gamma, use_cuda=device.type == "cuda"))


def _tslearn(case: Case, device: torch.device) -> Values:
    if device.type != "cpu":
        raise Unavailable("computes on the CPU only")
    metrics = _import("tslearn.metrics")
    return _with_given_costs(partial(metrics.SoftDTWLossPyTorch, gamma=case.gamma))


def _with_given_costs(make_loss: Callable[..., Callable[[Tensor, Tensor], Tensor]]) -> Values:
    """Hands a table of costs to a loss that makes its own from two sequences by a distance function."""

    def values(cost_BNM: Tensor) -> Tensor:
        batch, num_rows, num_columns = cost_BNM.shape
        loss = make_loss(dist_func=lambda x, y: cost_BNM)
        return loss(cost_BNM.new_empty(batch, num_rows, 1), cost_BNM.new_empty(batch, num_columns, 1))

    return values


def _loops(case: Case, device: torch.device) -> Values:
    if case.cells > MAX_LOOP_CELLS:
        raise Unavailable("one operation per cell: minutes a call at this size")
    return plain_loops.build(case, device)


def _numba(case: Case, device: torch.device) -> Values:
    if device.type != "cpu":
        raise Unavailable("computes on the CPU only")
    prototype = _import("benchmarks.dp.numba_soft_dtw")
    return partial(_KeepGradient.apply, partial(prototype.soft_dtw, gamma=case.gamma))


class _KeepGradient(torch.autograd.Function):
    """Makes a function that returns (values, gradient) as arrays differentiable, with the least effort."""

    @staticmethod
    def forward(ctx: Any, solve: Callable[..., Any], cost_BNM: Tensor) -> Tensor:
        value_B, gradient_BNM = solve(cost_BNM.detach().numpy())
        ctx.save_for_backward(torch.from_numpy(gradient_BNM))
        return torch.from_numpy(value_B)

    @staticmethod
    def backward(ctx: Any, grad_value_B: Tensor) -> tuple[None, Tensor]:
        (gradient_BNM,) = ctx.saved_tensors
        return None, grad_value_B[:, None, None] * gradient_BNM


def _ours(case: Case, device: torch.device, *, backend: str, recompute: bool) -> Values:
    dp = importlib.import_module("ftcl.dp")
    # On a CPU Triton only interprets, for its tests.
    if backend not in dp.available_backends(device) or (backend, device.type) == ("triton", "cpu"):
        raise Unavailable(f"not available for {device.type} here")
    if backend == "reference":
        _loops(case, device)
    options = {"backend": backend, "recompute": recompute}
    if case.function == "soft_dtw":
        return partial(dp.soft_dtw, gamma=case.gamma, **options)
    if case.function == "fsd":
        return partial(dp.fsd, gamma=case.gamma, **options)
    return partial(dp.lcs, threshold=THRESHOLD, **options)


def _composed(case: Case, device: torch.device) -> Values:
    losses = importlib.import_module("ftcl.losses")
    is_positive_B, chosen_2BL = is_positive(case, device), chosen_rows(case, device)

    def values(rows_2BLF: Tensor) -> Tensor:
        if case.function == "fsd_contrast":
            value_B = losses.fsd_values(*rows_2BLF.chunk(2), gamma=case.gamma)
        else:
            first_BLF, second_BLF = losses.gather_rows(rows_2BLF, chosen_2BL).chunk(2)
            value_B = losses.lcs_values(first_BLF, second_BLF, threshold=THRESHOLD)
        return losses.pair_contrast(value_B, is_positive_B)

    return values


def _fused(case: Case, device: torch.device) -> Values:
    losses = importlib.import_module("ftcl.losses")
    is_positive_B = is_positive(case, device)
    if case.function == "fsd_contrast":
        return lambda rows_2BLF: losses.fsd_contrast(rows_2BLF, is_positive_B, gamma=case.gamma)
    chosen_2BL = chosen_rows(case, device)
    return lambda rows_2BLF: losses.lcs_contrast(rows_2BLF, chosen_2BL, is_positive_B, threshold=THRESHOLD)


def _backend(name: str, *, recompute: bool = False) -> Contender:
    build = partial(_ours, backend=name, recompute=recompute)
    return Contender(name + "+recompute" * recompute, "ours", TABLES, build)


CONTENDERS = (
    Contender("pysdtw", "peer", ("soft_dtw",), _pysdtw),
    Contender("tslearn", "peer", ("soft_dtw",), _tslearn, overwrites_inputs=True),
    Contender("loops", "loops", (*TABLES, *CONTRASTS), _loops),
    Contender("numba", "prototype", ("soft_dtw",), _numba),
    _backend("reference"),
    _backend("torch"),
    _backend("native"),
    _backend("triton"),
    _backend("native", recompute=True),
    _backend("triton", recompute=True),
    Contender("composed", "ours", CONTRASTS, _composed),
    Contender("fused", "ours", CONTRASTS, _fused),
)
BY_NAME = {contender.name: contender for contender in CONTENDERS}
