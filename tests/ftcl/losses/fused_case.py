"""Made-up pairs of sequences, and their contrast both by the fused kernels and by the public functions.

Shapes: B pairs or videos, T rows of a sequence, L chosen ones, E channels.
"""

import os
from typing import Any

import pytest
import torch
from torch import Tensor

# Triton looks at it when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from ftcl.losses import (
    fsd_values,
    fused,
    fused_native,
    fused_triton,
    gather_rows,
    lcs_values,
    pair_contrast,
)

needs_native = pytest.mark.skipif(not fused_native.usable(), reason="needs the C library")
KERNELS: dict[str, Any] = {"native": fused_native, "triton": fused_triton}


class Case:
    """Rows of which some are nearly parallel to those of the other member, some not at all."""

    def __init__(
        self,
        recurrence: str,
        *,
        pairs: int = 3,
        steps: int = 6,
        channels: int = 24,
        gamma: float = 0.0,
        chosen: int | None = None,
        twice: bool = False,
        channels_first: bool = False,
        device: str = "cpu",
    ) -> None:
        generator = torch.Generator().manual_seed(0)
        first = torch.randn(pairs, steps, channels, generator=generator)
        noise = torch.randn(pairs, steps, channels, generator=generator)
        second = torch.where(torch.arange(steps)[:, None] % 3 < 2, first + 0.1 * noise, noise)
        rows = torch.cat((first, 3.0 * second)).to(device)
        if channels_first:
            rows = rows.mT.contiguous().mT
        self.rows_2BTE = rows.requires_grad_()
        self.chosen_2BL = None
        if chosen is not None:
            index = [torch.randperm(steps, generator=generator)[:chosen].sort().values for _ in range(pairs)]
            self.chosen_2BL = torch.stack(index * 2).to(device)
            if twice:
                self.chosen_2BL[:, 1::2] = self.chosen_2BL[:, ::2][:, : chosen // 2]
        self.is_positive_B = (torch.arange(pairs) % 3 == 0).to(device)
        # Far from any similarity, so that rounding makes no other matches.
        self.comparison = fused.Comparison(recurrence, gamma, 0.8)  # type: ignore[arg-type]

    def composed(self, rows_2BTE: Tensor) -> Tensor:
        chosen = self.chosen_2BL
        rows = rows_2BTE if chosen is None else gather_rows(rows_2BTE, chosen)
        first, second = rows.chunk(2)
        gamma, threshold = self.comparison.gamma, self.comparison.threshold
        if self.comparison.recurrence == "fsd":
            value_B = fsd_values(first, second, gamma=gamma)
        else:
            value_B = lcs_values(first, second, threshold=threshold, gamma=gamma)
        return pair_contrast(value_B, self.is_positive_B)

    def fused(self, rows_2BTE: Tensor, kernel_name: str) -> Tensor:
        return fused.fused_contrast(
            KERNELS[kernel_name],
            self.comparison,
            rows_2BTE,
            self.chosen_2BL,
            self.is_positive_B,
            self.composed,
        )

    def assert_agree(self, kernel_name: str) -> Tensor:
        """Value to 1e-5 and gradient to 1e-5 of its largest entry, beside float64."""
        exact = self.rows_2BTE.detach().double().requires_grad_()
        expected = self.composed(exact)
        (expected_gradient,) = torch.autograd.grad(-3.0 * expected, exact)
        actual = self.fused(self.rows_2BTE, kernel_name)
        (gradient,) = torch.autograd.grad(-3.0 * actual, self.rows_2BTE)
        assert actual.dtype == gradient.dtype == torch.float32
        assert actual.item() == pytest.approx(expected.item(), abs=1e-5)
        largest = float(expected_gradient.abs().max())
        assert largest > 1e-4
        torch.testing.assert_close(gradient.double(), expected_gradient, rtol=0, atol=1e-5 * largest)
        return gradient
