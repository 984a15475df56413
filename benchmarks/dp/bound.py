"""What a GPU allows at best: the time below which no forward and backward pass can come, case by case.

    python -m benchmarks.dp.bound [--times CSV]

bound = max(launches, bytes / bandwidth, steps × latency of a step), with everything measured here: the time
of a forward and backward pass through torch of one launch each, the bandwidth of a large copy, and the time
that one more step of a chain of dependent operations takes, over as many lanes as the table needs: a table is
filled by one multiprocessor. With the results of a run (`python -m benchmarks.dp --device cuda`) it also
prints how far each is from its bound.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.dp.cases import GPU_SIZES, SIZES, TABLES, Case, Size, table_case
from ftcl.dp.backends.triton_backend import Tuning

ALL_SIZES = tuple(dict.fromkeys((*SIZES, *GPU_SIZES)))
GOAL = 3.0  # times the bound
COPY_BYTES = 1 << 30
SHORT_CHAIN, LONG_CHAIN = 2_000, 10_000
SHORT_QUEUE, LONG_QUEUE = 50, 250
REPETITIONS = 20


class Steps(NamedTuple):
    """Seconds that one more diagonal takes."""

    soft: float
    hard: float
    backwards: float


@dataclass(frozen=True)
class Machine:
    """Measured figures of a GPU: `launches_s` is that of both passes, `steps` goes by the lanes."""

    bytes_per_s: float
    launches_s: float
    steps: dict[int, Steps]


@dataclass(frozen=True)
class Bound:
    """The three bounds of a case in seconds; the largest of them holds."""

    launches_s: float
    bytes_s: float
    steps_s: float

    @property
    def seconds(self) -> float:
        return max(self.launches_s, self.bytes_s, self.steps_s)

    @property
    def reason(self) -> str:
        named = {"launches": self.launches_s, "bytes": self.bytes_s, "steps": self.steps_s}
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
    print(f"copy {machine.bytes_per_s / 1e12:.2f} TB/s, launches {1e6 * machine.launches_s:.1f} µs a pass")
    for lanes, step in machine.steps.items():
        soft, hard, backwards = (f"{1e9 * x:.0f} ns" for x in step)
        print(f"a step of {lanes} lanes: {soft} soft, {hard} hard, {backwards} backwards")
    print(f"\n{'case':24}{'launches':>12}{'bytes':>12}{'steps':>12}{'bound, µs':>12}")
    is_met = True
    for size in ALL_SIZES:
        for function in TABLES:
            case = table_case(function, size)
            bound = bound_of(case, machine)
            parts = (bound.launches_s, bound.bytes_s, bound.steps_s, bound.seconds)
            line = f"{case!s:24}" + "".join(f"{1e6 * x:12.1f}" for x in parts) + f"  {bound.reason}"
            if (measured_ms := times_ms.get(str(case))) is not None:
                ratio = measured_ms / 1e3 / bound.seconds
                is_met &= ratio <= GOAL
                line += f", measured {1e3 * measured_ms:.1f} µs, {ratio:.2f} × the bound"
                line += "" if ratio <= GOAL else f", more than {GOAL:.0f}"
            print(line)
    return 0 if is_met else 1


def bound_of(case: Case, machine: Machine) -> Bound:
    """The bounds of a forward pass with unit gradients; the backward pass counts with its launch only.

    Bytes: tables are read, weights written and read again, unit gradients written, each once.
    """
    num_tables = 2 if case.function == "fsd" else 1
    is_hard = case.gamma == 0
    weight_bytes = 1 if is_hard else 8
    bytes_per_cell = 4 * num_tables + 2 * weight_bytes + 4 * num_tables
    step = machine.steps[lanes_of(case.size)]
    step_s = (step.hard if is_hard else step.soft) + step.backwards
    num_steps = case.size.rows + case.size.columns - 1
    bytes_s = case.cells * bytes_per_cell / machine.bytes_per_s
    return Bound(machine.launches_s, bytes_s, num_steps * step_s)


def measure() -> Machine:
    """The figures of the current GPU."""
    from benchmarks.dp import bound_kernels as kernels  # needs Triton

    source = torch.zeros(COPY_BYTES // 4, device="cuda")
    target = torch.empty_like(source)
    copy_s = seconds(lambda: target.copy_(source))
    number = torch.zeros(1, device="cuda", requires_grad=True)
    seed = torch.ones_like(number)

    def passes(length: int) -> None:
        for _ in range(length):
            torch.autograd.grad(number.exp(), number, seed)

    def steps_of(lanes: int) -> Steps:
        out = torch.empty(lanes, device="cuda")

        def step_s(kernel: Any) -> float:
            def run(num_steps: int) -> None:
                kernel[(1,)](out, num_steps, LANES=lanes, num_warps=Tuning().warps(lanes))

            return slope(run, SHORT_CHAIN, LONG_CHAIN)

        return Steps(*(step_s(x) for x in (kernels.soft_chain, kernels.hard_chain, kernels.adjoint_chain)))

    return Machine(
        bytes_per_s=2 * COPY_BYTES / copy_s,
        launches_s=slope(passes, SHORT_QUEUE, LONG_QUEUE),
        steps={lanes: steps_of(lanes) for lanes in sorted({lanes_of(size) for size in ALL_SIZES})},
    )


def lanes_of(size: Size) -> int:
    """Lanes that the Triton backend gives to a table."""
    return Tuning().lanes(min(size.rows, size.columns))


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
    """Milliseconds of the Triton backend by case: of a CUDA graph if there is one, else of calls."""
    lines: Sequence[str] = [x for x in path.read_text().splitlines() if not x.startswith("#")]
    return {
        f"{row['function']} {row['batch']},{row['rows']},{row['columns']}": float(
            row["replay_ms"] or row["median_ms"]
        )
        for row in csv.DictReader(lines)
        if row["contender"] == "triton" and row["section"] == "sizes" and row["median_ms"]
    }


if __name__ == "__main__":
    sys.exit(main())
