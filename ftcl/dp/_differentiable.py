"""Makes the values of a fast backend differentiable, and known to torch.compile and torch.func.

A backend computes a value per item and its derivatives to that item's cells and γ in one go; the backward
pass multiplies these by the incoming gradient. This holds for every recurrence and every backend, so that
autograd, vmap and compilation are dealt with here, once.

V samples of a vmap, B items, N rows, M columns.
"""

import contextlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, library

from ftcl.dp._arguments import check_contents
from ftcl.dp.backends import choose_backend, solver
from ftcl.dp.backends.problem import TABLE_NAMES, Problem, Recurrence, Wants

Reference = Callable[[Problem], Tensor]


def evaluate(
    problem: Problem, reference: Reference, *, backend: str | None, recompute: bool, check: bool
) -> Tensor:
    """Value of every item by the chosen backend, (B,)."""
    if backend == "reference":
        if check or problem.tables[0].device.type == "cpu":
            _check_contents_if_visible(problem)
        return reference(problem)
    return _evaluate_in_graph(*_arguments(problem), backend, recompute, check, Wants.VALUE)[0]


def evaluate_with_adjoint(problem: Problem, *, backend: str | None, check: bool) -> tuple[Tensor, Tensor]:
    """Value of every item, (B,), and its derivative to each cell of its first table, (B, N, M).

    The value can be differentiated, the derivative cannot. ValueError for the reference, which has no such
    derivative at hand.
    """
    if backend == "reference":
        raise ValueError("backend 'reference' computes values only; name another backend, or None")
    outputs = _evaluate_in_graph(*_arguments(problem), backend, False, check, Wants.TABLE_GRADIENTS)
    return outputs[0], outputs[1]


def _arguments(problem: Problem) -> tuple[Any, ...]:
    return (
        problem.tables,
        problem.gamma,
        problem.threshold,
        problem.lengths,
        problem.recurrence,
        problem.bandwidth,
    )


# The compiler takes calls as they are, instead of tracing into a class that it only partly understands; it
# then differentiates and batches them by the same rules as when nothing is compiled.
@torch.compiler.allow_in_graph
def _evaluate_in_graph(
    tables: Sequence[Tensor],
    gamma: float | Tensor,
    threshold: float | Tensor,
    lengths: Tensor | None,
    recurrence: Recurrence,
    bandwidth: int | None,
    backend: str | None,
    recompute: bool,
    check: bool,
    wants: Wants,
) -> tuple[Tensor, ...]:
    gamma_tensor, gamma_number = (gamma, 0.0) if isinstance(gamma, Tensor) else (None, gamma)
    threshold_tensor, threshold_number = (
        (threshold, 0.0) if isinstance(threshold, Tensor) else (None, threshold)
    )
    call = _Call(
        recurrence,
        gamma_number,
        threshold_number,
        bandwidth,
        choose_backend(backend, tables[0].device),
        recompute,
        check,
        _wanted(wants, gamma_tensor, tables),
    )
    return _Evaluate.apply(call, gamma_tensor, threshold_tensor, lengths, *tables)


@dataclass(frozen=True)
class _Call:
    """What a call holds besides tensors; `gamma` and `threshold` where they are numbers."""

    recurrence: Recurrence
    gamma: float
    threshold: float
    bandwidth: int | None
    backend: str
    recompute: bool
    check: bool
    wants: Wants


def _wanted(wants: Wants, gamma: Tensor | None, tables: Sequence[Tensor]) -> Wants:
    """What is wanted anyway, and what autograd or a transformation around the call will ask for."""
    if not torch.is_grad_enabled():
        return wants
    if gamma is not None and gamma.requires_grad:
        return Wants.GAMMA_GRADIENT
    return max(wants, Wants.TABLE_GRADIENTS) if any(x.requires_grad for x in tables) else wants


class _Evaluate(torch.autograd.Function):
    """Returns the values and, for autograd and its transformations to keep, the unit gradients."""

    @staticmethod
    def forward(
        call: _Call,
        gamma: Tensor | None,
        threshold: Tensor | None,
        lengths: Tensor | None,
        *tables: Tensor,
    ) -> tuple[Tensor, ...]:
        wants = Wants.VALUE if call.recompute and call.wants else call.wants
        # Compilers and tracers work with stand-ins for tensors, or watch: both need a registered operator.
        solve = _solve if _are_plain(gamma, threshold, lengths, *tables) else _solve_operator
        outputs = solve(
            tables,
            gamma,
            threshold,
            lengths,
            call.recurrence,
            call.gamma,
            call.threshold,
            call.bandwidth,
            call.backend,
            call.check,
            wants,
        )
        return tuple(outputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], outputs: tuple[Tensor, ...]) -> None:
        call, *tensors = inputs
        ctx.call = call
        ctx.mark_non_differentiable(*outputs[1:])
        # Otherwise tables of zeros come as the gradients of the unit gradients.
        ctx.set_materialize_grads(False)
        if call.wants:
            ctx.save_for_backward(*tensors, *outputs[1:])

    @staticmethod
    def backward(ctx: Any, grad_value_B: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        num_inputs = 3 + len(TABLE_NAMES[call.recurrence])
        if grad_value_B is None:
            return (None,) * (1 + num_inputs)
        saved = ctx.saved_tensors
        inputs, units = saved[:num_inputs], saved[num_inputs:]
        gamma, _, _, *tables = inputs
        with torch.no_grad():
            if call.recompute:
                _, *units = _Evaluate.apply(replace(call, recompute=False), *inputs)
            gradients: list[Tensor | None] = [
                _scaled(unit_BNM, grad_value_B[:, None, None]).to(x.dtype)
                for unit_BNM, x in zip(units, tables, strict=False)
            ]
            gamma_gradient = None
            if call.wants == Wants.GAMMA_GRADIENT:
                gamma_gradient = grad_value_B * units[-1]
                gamma_gradient = (gamma_gradient.sum() if gamma.ndim == 0 else gamma_gradient).to(gamma.dtype)
        if torch.is_grad_enabled():
            gamma_gradient, *gradients = _once_only(
                call.backend, [gamma_gradient, *gradients], [grad_value_B, gamma, *tables]
            )
        return None, gamma_gradient, None, None, *gradients

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[Any, ...],
        call: _Call,
        *tensors: Tensor | None,
    ) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        gamma, threshold, lengths, *tables = _fold(info.batch_size, in_dims[1:], *tensors)
        # A transformation outside of this one may ask for more than was wanted inside.
        wants = _wanted(call.wants, gamma, tables)
        outputs = _Evaluate.apply(replace(call, wants=wants), gamma, threshold, lengths, *tables)
        num_outputs = 1 if call.recompute else _num_outputs(call.recurrence, call.wants)
        unfolded = _unfold(info.batch_size, outputs[:num_outputs])
        return unfolded, (0,) * num_outputs


# torch binds the arguments of every call to the signature of `forward`; to find that out each time would take
# as long as everything else around a small table.
_Evaluate.forward.__signature__ = inspect.signature(lambda *inputs: None)  # type: ignore[attr-defined]


def _are_plain(*tensors: Tensor | None) -> bool:
    """Whether these are tensors with memory of their own, and nobody watches what is done with them."""
    plain = (Tensor, torch.nn.Parameter, type(None))
    return not torch._C._len_torch_dispatch_stack() and all(type(x) in plain for x in tensors)


def _scaled(unit_BNM: Tensor, gradient_B11: Tensor) -> Tensor:
    """Their product, in the memory of the unit gradient if the backward pass frees that afterwards.

    To touch the memory of another table takes as long as the fastest recurrence does.
    """
    is_kept = getattr(torch._C._autograd, "_get_current_graph_task_keep_graph", lambda: True)
    if not is_kept():
        with contextlib.suppress(RuntimeError):  # a gradient inside vmap is several, and does not fit
            return unit_BNM.mul_(gradient_B11)
    return unit_BNM * gradient_B11


class _NoSecondDerivative(torch.autograd.Function):
    """Passes a gradient on, and refuses to differentiate it.

    torch's once_differentiable is not enough: it lets a second derivative pass as zero when the incoming
    gradient is a constant.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(backend: str, gradient: Tensor, *causes: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.backend = inputs[0]

    @staticmethod
    def backward(ctx: Any, *_: Any) -> None:
        raise RuntimeError(f"the {ctx.backend} backend has no second derivative; pass backend='reference'")


def _once_only(
    backend: str, gradients: Sequence[Tensor | None], inputs: Sequence[Tensor | None]
) -> list[Tensor | None]:
    causes = [x for x in inputs if x is not None and x.requires_grad]
    return [None if x is None else _NoSecondDerivative.apply(backend, x, *causes) for x in gradients]


def _solve(
    tables: Sequence[Tensor],
    gamma: Tensor | None,
    threshold: Tensor | None,
    lengths: Tensor | None,
    recurrence: str,
    gamma_number: float,
    threshold_number: float,
    bandwidth: int | None,
    backend: str,
    check: bool,
    wants: int,
) -> list[Tensor]:
    problem = Problem(
        recurrence,  # type: ignore[arg-type]  # an operator's schema knows no literals
        tuple([x.resolve_neg() for x in tables]),  # kernels read memory, which a lazy minus is not in
        gamma_number if gamma is None else gamma,
        threshold_number if threshold is None else threshold,
        lengths,
        bandwidth,
    )
    if check or tables[0].device.type == "cpu":
        check_contents(problem, tables=backend != "native")  # which looks at them as it goes
    value_B, table_gradients, gamma_gradient_B = solver(backend)(problem, Wants(wants))
    outputs = [value_B, *table_gradients]
    return outputs if gamma_gradient_B is None else [*outputs, gamma_gradient_B]


_solve_operator = library.custom_op("ftcl_dp::unit_gradients", _solve, mutates_args=())


@_solve_operator.register_fake
def _(tables: Sequence[Tensor], *arguments: Any) -> list[Tensor]:
    recurrence, wants = arguments[3], arguments[-1]
    dtype = torch.float64 if tables[0].dtype == torch.float64 else torch.float32
    value_B = tables[0].new_empty(tables[0].shape[:1], dtype=dtype)
    outputs = [value_B]
    if wants >= Wants.TABLE_GRADIENTS:
        outputs += [x.new_empty(x.shape, dtype=dtype) for x in tables]
    if wants == Wants.GAMMA_GRADIENT:
        outputs.append(torch.empty_like(value_B))
    assert len(outputs) == _num_outputs(recurrence, wants)
    return outputs


@_solve_operator.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], tables: Sequence[Tensor], *arguments: Any) -> Any:
    tensors, static = arguments[:3], arguments[3:]
    table_dims, *dims = in_dims[:4]
    folded = _fold(info.batch_size, (*dims, *table_dims), *tensors, *tables)
    outputs = _solve_operator(folded[3:], *folded[:3], *static)
    return list(_unfold(info.batch_size, outputs)), [0] * len(outputs)


def _num_outputs(recurrence: str, wants: int) -> int:
    num_tables = len(TABLE_NAMES[recurrence])
    return 1 + num_tables * (wants >= Wants.TABLE_GRADIENTS) + (wants == Wants.GAMMA_GRADIENT)


def _fold(samples: int, dims: Sequence[int | None], *tensors: Tensor | None) -> list[Any]:
    """γ, threshold, lengths and tables of all samples of a vmap as those of one larger batch."""
    table, dim = tensors[-1], dims[-1]
    assert table is not None
    batch = table.shape[0] if dim is None else table.movedim(dim, 0).shape[1]
    folded: list[Any] = []
    for x, dim in zip(tensors, dims, strict=True):
        if x is None or (dim is None and x.ndim == 0):
            folded.append(x)
            continue
        x = x.unsqueeze(0) if dim is None else x.movedim(dim, 0)
        if x.ndim == 1:  # a number for each sample is one for each of its items
            x = x[:, None].expand(-1, batch)
        x = x.expand(samples, *x.shape[1:])
        folded.append(x.reshape(samples * batch, *x.shape[2:]))
    return folded


def _unfold(samples: int, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return tuple(x.reshape(samples, x.shape[0] // samples, *x.shape[1:]) for x in outputs)


def _check_contents_if_visible(problem: Problem) -> None:
    if torch.compiler.is_compiling():
        return
    with contextlib.suppress(RuntimeError):  # inside vmap a tensor has no one value to look at
        check_contents(problem)
