"""The contrasts of pairs in as few passes over the rows as possible, on devices that have kernels for it.

What they compute is defined by the composition of the public functions (see contrast), which agrees to
rounding and takes over wherever the kernels do not apply. No tensor of gathered rows or of normalised ones is
made, and the gradient comes in the layout of the rows.

Shapes: B pairs, T rows of a sequence, L chosen ones, E channels, H ranges of channels.
"""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    is_positive_B: Tensor,
    gamma: float | Tensor,
    threshold: float | Tensor,
) -> Kernels | None:
    """The kernels for these arguments; None where there are none or the arguments are not as they need them.

    They take float32 rows, and γ and τ as numbers of a usual size; the composition takes everything else.
    """
    if _is_watched():
        return None
    if not isinstance(gamma, int | float) or not isinstance(threshold, int | float):
        return None
    if isinstance(gamma, bool) or isinstance(threshold, bool):
        return None
    if not (gamma == 0 or 1e-6 <= gamma <= 1e6) or not abs(threshold) <= 1e6:
        return None
    if not (_is_plain(rows_2BTE, torch.float32, 3) and _is_plain(is_positive_B, torch.bool, 1)):
        return None
    if chosen_2BL is not None and not (
        _is_plain(chosen_2BL, torch.int64, 2) and len(chosen_2BL) == len(rows_2BTE)
    ):
        return None
    if any(x is not None and x.device != rows_2BTE.device for x in (chosen_2BL, is_positive_B)):
        return None
    return _kernels(choose_backend(None, rows_2BTE.device))


def _is_watched() -> bool:
    """Whether compilers, tracers or transformations need to see the operators of the call."""
    return (
        torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or torch._C._len_torch_dispatch_stack() > 0
    )


def _is_plain(x: Tensor, dtype: torch.dtype, ndim: int) -> bool:
    """Whether x is a tensor of that kind with memory of its own, and not empty."""
    return (
        type(x) in (Tensor, nn.Parameter)
        and x.dtype == dtype
        and x.ndim == ndim
        and x.layout == torch.strided
        and not x.is_neg()  # a lazy minus is not in the memory
        and x.numel() > 0
    )


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
