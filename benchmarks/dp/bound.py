"""What a GPU allows at best: the time below which no forward and backward pass can come, case by case.

    python -m benchmarks.dp.bound [--times CSV]

bound = max(launches × launch time, bytes / bandwidth, steps × latency of a step), with everything measured
here: the bandwidth of a large copy, the time that one more launch takes, and the time that one more step of a
chain of dependent operations takes. With the results of a run (`python -m benchmarks.dp --device cuda`) it
also prints how far each is from its bound.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.dp.cases import GPU_SIZES, SIZES, TABLES, Case, table_case

GOAL = 3.0  # times the bound
LAUNCHES = 2  # forward with the unit gradients, and their product with the incoming gradient
COPY_BYTES = 1 << 30
SHORT_CHAIN, LONG_CHAIN = 2_000, 10_000
SHORT_QUEUE, LONG_QUEUE = 50, 250
REPETITIONS = 20


@dataclass(frozen=True)
class Machine:
    """Measured figures of a GPU, in seconds and bytes."""

    bytes_per_s: float
    launch_s: float
    soft_step_s: float
    hard_step_s: float
    adjoint_step_s: float


@dataclass(frozen=True)
class Bound:
    """The three bounds of a case in seconds; the largest of them holds."""

    launch_s: float
    bytes_s: float
    steps_s: float

    @property
    def seconds(self) -> float:
        return max(self.launch_s, self.bytes_s, self.steps_s)

    @property
    def reason(self) -> str:
        named = {"launches": self.launch_s, "bytes": self.bytes_s, "steps": self.steps_s}
        return max(named, key=lambda name: named[name])


def main() -> int:
    """Print a line per case; returns 0, 1 if a result misses the goal, or 2 without a GPU."""
    parser = argparse.ArgumentParser(description="The bounds of a GPU for the recurrences of ftcl.dp.")
    parser.add_argument("--times", type=Path, metavar="CSV", help="results to compare with the bounds")
    times_path: Path | None = parser.parse_args().times
    if not torch.cuda.is_available():
        print("torch sees no GPU here; the bounds are measured on one", file=sys.stderr)
        return 2
    times_ms = {} if times_path is None else read_times(times_path)
    machine = measure()
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    print(
        f"copy {machine.bytes_per_s / 1e12:.2f} TB/s, launch {1e6 * machine.launch_s:.2f} µs, step "
        f"{1e9 * machine.soft_step_s:.0f} ns soft, {1e9 * machine.hard_step_s:.0f} ns hard, "
        f"{1e9 * machine.adjoint_step_s:.0f} ns backwards\n"
    )
    print(f"{'case':24}{'launches':>12}{'bytes':>12}{'steps':>12}{'bound, µs':>12}")
    is_met = True
    for size in dict.fromkeys((*SIZES, *GPU_SIZES)):
        for function in TABLES:
            case = table_case(function, size)
            bound = bound_of(case, machine)
            parts = (bound.launch_s, bound.bytes_s, bound.steps_s, bound.seconds)
            line = f"{case!s:24}" + "".join(f"{1e6 * x:12.1f}" for x in parts) + f"  {bound.reason}"
            if (measured_ms := times_ms.get(str(case))) is not None:
                ratio = measured_ms / 1e3 / bound.seconds
                is_met &= ratio <= GOAL
                line += f", measured {1e3 * measured_ms:.1f} µs, {ratio:.2f} × the bound"
                line += "" if ratio <= GOAL else f", more than {GOAL:.0f}"
            print(line)
    return 0 if is_met else 1


def bound_of(case: Case, machine: Machine) -> Bound:
    """The bounds of a forward pass with unit gradients; the backward pass counts as a launch only.

    Bytes: tables are read, weights written and read again, unit gradients written, each once.
    """
    num_tables = 2 if case.function == "fsd" else 1
    is_hard = case.gamma == 0
    weight_bytes = 1 if is_hard else 8
    bytes_per_cell = 4 * num_tables + 2 * weight_bytes + 4 * num_tables
    step_s = (machine.hard_step_s if is_hard else machine.soft_step_s) + machine.adjoint_step_s
    num_steps = case.size.rows + case.size.columns - 1
    return Bound(
        LAUNCHES * machine.launch_s, case.cells * bytes_per_cell / machine.bytes_per_s, num_steps * step_s
    )


def measure() -> Machine:
    """The figures of the current GPU."""
    from benchmarks.dp import bound_kernels as kernels  # needs Triton

    source = torch.zeros(COPY_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    copy_s = seconds(lambda: target.copy_(source))
    number = torch.zeros(1, device="cuda")

    def queue(length: int) -> None:
        for _ in range(length):
            number.add_(1.0)

    launch_s = slope(queue, SHORT_QUEUE, LONG_QUEUE)
    out = torch.empty(32, device="cuda")

    def step_s(kernel: Callable[..., object]) -> float:
        def run(num_steps: int) -> None:
            kernel[(1,)](out, num_steps, LANES=32, num_warps=1)  # type: ignore[index]

        return slope(run, SHORT_CHAIN, LONG_CHAIN)

    return Machine(
        bytes_per_s=2 * COPY_BYTES / copy_s,
        launch_s=launch_s,
        soft_step_s=step_s(kernels.soft_chain),
        hard_step_s=step_s(kernels.hard_chain),
        adjoint_step_s=step_s(kernels.adjoint_chain),
    )


def seconds(run: Callable[[], object]) -> float:
    """Median time between two events around a call, after calls that warm up."""
    for _ in range(3):
        run()
    times_ms = []
    for _ in range(REPETITIONS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times_ms.append(start.elapsed_time(end))
    return statistics.median(times_ms) / 1e3


def slope(run: Callable[[int], object], short: int, long: int) -> float:
    """Time that one more repetition takes."""
    return (seconds(lambda: run(long)) - seconds(lambda: run(short))) / (long - short)


def read_times(path: Path) -> dict[str, float]:
    """Median milliseconds of the Triton backend by case, from the results of a run."""
    lines: Sequence[str] = [x for x in path.read_text().splitlines() if not x.startswith("#")]
    return {
        f"{row['function']} {row['batch']},{row['rows']},{row['columns']}": float(row["median_ms"])
        for row in csv.DictReader(lines)
        if row["contender"] == "triton" and row["section"] == "sizes" and row["median_ms"]
    }


if __name__ == "__main__":
    sys.exit(main())
