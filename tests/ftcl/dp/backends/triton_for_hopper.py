"""Compiles Triton kernels for an H100 or H200, on any machine, and prints what came out as JSON.

A script, since it needs a process whose Triton does not interpret.
"""

import json
import re
import subprocess
import tempfile
from collections.abc import Iterator
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget

from ftcl.dp.backends import triton_backend, triton_kernels
from ftcl.dp.backends.problem import TABLE_NAMES, Problem, Recurrence, Wants


class Hopper:
    """As much of a driver as it takes to compile."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def problems() -> Iterator[tuple[str, Problem, Wants]]:
    def make(recurrence: Recurrence, num_rows: int, num_columns: int, **options: Any) -> Problem:
        dtype = options.pop("dtype", torch.float32)
        tables = tuple(torch.empty(1, num_rows, num_columns, dtype=dtype) for _ in TABLE_NAMES[recurrence])
        return Problem(recurrence, tables, **{"gamma": 0.1, **options})

    lengths = torch.ones(1, 2, dtype=torch.int64)
    yield "fsd, one warp", make("fsd", 128, 200, lengths=lengths), Wants.GAMMA_GRADIENT
    yield "soft_dtw, one warp", make("soft_dtw", 30, 20, bandwidth=3), Wants.TABLE_GRADIENTS
    yield "lcs, one warp", make("lcs", 30, 40, gamma=0.0, dtype=torch.bfloat16), Wants.TABLE_GRADIENTS
    yield "smooth_dtw, bands", make("smooth_dtw", 2100, 2200), Wants.GAMMA_GRADIENT


def shapes_of_one_kernel() -> Iterator[Problem]:
    for num_rows, num_columns in ((1, 1), (5, 7), (16, 16), (30, 31)):
        wider = torch.empty(1, num_rows, num_columns + 3)
        yield Problem("lcs", (wider[:, :, 3:],), gamma=0.0, threshold=0.5 * num_rows)


def compile_for(problem: Problem, wants: Wants) -> Any:
    compiled = []
    kernel = triton_kernels.solve_kernel

    def compile_only(*arguments: Any, grid: Any, warmup: bool, **options: Any) -> None:
        compiled.append(type(kernel).run(kernel, *arguments, grid=grid, warmup=True, **options))

    kernel.run = compile_only
    triton_backend.solve(problem, wants)
    return compiled[0]


def resources(ptx: str) -> dict[str, int]:
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [triton.knobs.nvidia.ptxas.path, "-v", "-arch=sm_90a", file.name, "-o", "/dev/null"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    patterns = {"registers": r"Used (\d+) registers", "spilled_bytes": r"(\d+) bytes spill stores"}
    return {name: int(re.search(pattern, report)[1]) for name, pattern in patterns.items()}  # type: ignore[index]


def main() -> None:
    triton.runtime.driver.set_active(Hopper())
    findings = {}
    for name, problem, wants in problems():
        kernel = compile_for(problem, wants)
        findings[name] = {
            "warps": kernel.metadata.num_warps,
            "barriers": kernel.asm["ptx"].count("bar.sync"),
            "shuffles": kernel.asm["ptx"].count("shfl.sync"),
            "fast_logarithms": kernel.asm["ptx"].count("lg2.approx"),
            "layout_conversions": kernel.asm["ttgir"].count("convert_layout"),
            **resources(kernel.asm["ptx"]),
        }
    kernels = {compile_for(problem, Wants.TABLE_GRADIENTS).hash for problem in shapes_of_one_kernel()}
    print(json.dumps({"kernels": findings, "kernels_for_four_shapes": len(kernels)}))


if __name__ == "__main__":
    main()
