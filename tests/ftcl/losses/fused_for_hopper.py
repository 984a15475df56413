"""Compiles the Triton kernels of the contrasts for an H100 or H200, on any machine; prints findings as JSON.

A script, since it needs a process whose Triton does not interpret.
"""

import json
from typing import Any

import torch
import triton

from ftcl.dp.backends.problem import Wants
from ftcl.losses import fused_triton, fused_triton_kernels
from ftcl.losses.fused import Comparison
from tests.ftcl.dp.backends.triton_for_hopper import Hopper, resources

KERNELS = ("products_kernel", "contrast_kernel", "row_gradient_kernel")


def main() -> None:
    triton.runtime.driver.set_active(Hopper())
    compiled: dict[str, Any] = {}

    def compile_only(name: str, kernel: Any) -> Any:
        def run(*arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
            compiled[name] = type(kernel).run(kernel, *arguments, grid=grid, warmup=True, **options)

        return run

    is_positive_B = torch.tensor([True, False])
    grad = torch.ones(())
    # FTCL's sizes: rows of a linear layer, and rows chosen from an embedding whose channels come first.
    lcs_rows = torch.empty(4, 2048, 750).mT
    for comparison, rows, chosen in (
        (Comparison("fsd", 0.1), torch.empty(4, 5, 1024), None),
        (Comparison("lcs", 0.0, 0.92), lcs_rows, torch.zeros(4, 30, dtype=torch.int64)),
    ):
        for name in KERNELS:
            kernel = getattr(fused_triton_kernels, name)
            kernel.run = compile_only(f"{name}, {comparison.recurrence}", kernel)
        _, kept = fused_triton.forward(comparison, rows, chosen, is_positive_B, Wants.TABLE_GRADIENTS)
        fused_triton.backward(comparison, rows, chosen, kept, grad)
    findings = {
        name: {"matrix_instructions": kernel.asm["ptx"].count("mma"), **resources(kernel.asm["ptx"])}
        for name, kernel in compiled.items()
    }
    print(json.dumps(findings))


if __name__ == "__main__":
    main()
