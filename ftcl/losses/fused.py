"""The contrasts of pairs in as few passes over the rows as possible, on devices that have kernels for it.

What they compute is defined by the composition of the public functions (see contrast), which agrees to
rounding and takes over wherever the kernels do not apply. No tensor of gathered rows or of normalised ones is
made, and the gradient comes in the layout of the rows.

Shapes: B pairs, T rows of a sequence, L chosen ones, E channels, H ranges of channels.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from ftcl.dp.backends import choose_backend
from ftcl.dp.backends.problem import Wants

# By the backend of `ftcl.dp` that belongs to them.
_KERNELS = {"native": "ftcl.losses.fused_native", "triton": "ftcl.losses.fused_triton"}


@dataclass(frozen=True)
class Comparison:
    """How two sequences are compared; γ and τ are numbers."""

    recurrence: Literal["fsd", "lcs"]
    gamma: float
    threshold: float = 0.0

    def range_ends(self, num_channels: int) -> tuple[int, ...]:
        """Where the H ranges of channels end; each has a similarity table of its own."""
        return (num_channels // 2, num_channels) if self.recurrence == "fsd" else (num_channels,)


class Kernels(Protocol):
    """What a module of kernels has."""

    def usable(self) -> bool:
        """Whether they are there."""

    def forward(
        self,
        comparison: Comparison,
        rows_2BTE: Tensor,
        chosen_2BL: Tensor | None,
        is_positive_B: Tensor,
        wants: Wants,
    ) -> tuple[Tensor, Sequence[Tensor]]:
        """The contrast, and what `backward` needs; only the value if no more is wanted."""

    def backward(
        self,
        comparison: Comparison,
        rows_2BTE: Tensor,
        chosen_2BL: Tensor | None,
        kept: Sequence[Tensor],
        grad: Tensor,
    ) -> Tensor:
        """Gradient to the rows, in their layout."""


def find_kernels(
    rows_2BTE: Tensor, chosen_2BL: Tensor | None, gamma: float | Tensor, threshold: float | Tensor
) -> Kernels | None:
    """The kernels for these arguments; None where there are none or the arguments are not as they need them.

    Malformed arguments are for the composition too, which says what is wrong with them.
    """
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active():
        return None
    if type(rows_2BTE) not in (Tensor, nn.Parameter) or rows_2BTE.dtype != torch.float32:
        return None
    if rows_2BTE.ndim != 3 or not rows_2BTE.numel():
        return None
    if not (isinstance(gamma, Real) and (gamma == 0 or 1e-6 <= gamma <= 1e6)):
        return None
    if not (isinstance(threshold, Real) and abs(threshold) <= 1e6):
        return None
    if chosen_2BL is not None and (
        chosen_2BL.dtype != torch.int64
        or chosen_2BL.device != rows_2BTE.device
        or chosen_2BL.ndim != 2
        or len(chosen_2BL) != len(rows_2BTE)
        or not chosen_2BL.shape[1]
    ):
        return None
    return _kernels(choose_backend(None, rows_2BTE.device))


def fused_contrast(
    kernels: Kernels,
    comparison: Comparison,
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    is_positive_B: Tensor,
    compose: Callable[[Tensor], Tensor],
) -> Tensor:
    """The contrast of the chosen rows, or of all; `compose` defines it, and a second derivative is its."""
    return _FusedContrast.apply(rows_2BTE, chosen_2BL, is_positive_B, kernels, comparison, compose)


class _FusedContrast(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows_2BTE: Tensor,
        chosen_2BL: Tensor | None,
        is_positive_B: Tensor,
        kernels: Kernels,
        comparison: Comparison,
        compose: Callable[[Tensor], Tensor],
    ) -> Tensor:
        wants = Wants.TABLE_GRADIENTS if ctx.needs_input_grad[0] else Wants.VALUE
        value, kept = kernels.forward(comparison, rows_2BTE, chosen_2BL, is_positive_B, wants)
        if wants:
            ctx.save_for_backward(rows_2BTE, chosen_2BL, *kept)
            ctx.kernels, ctx.comparison, ctx.compose = kernels, comparison, compose
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows_2BTE, chosen_2BL, *kept = ctx.saved_tensors
        if torch.is_grad_enabled():
            value = ctx.compose(rows_2BTE)
            (gradient_2BTE,) = torch.autograd.grad(value, rows_2BTE, grad, create_graph=True)
        else:
            gradient_2BTE = ctx.kernels.backward(ctx.comparison, rows_2BTE, chosen_2BL, kept, grad)
        return gradient_2BTE, None, None, None, None, None


def _kernels(backend: str) -> Kernels | None:
    if backend not in _KERNELS:
        return None
    module: Any = importlib.import_module(_KERNELS[backend])
    return module if module.usable() else None
