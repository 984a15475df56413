"""What timings do not tell about a GPU: launches per call, waiting of the host, and CUDA graphs.

    python -m benchmarks.dp.gpu_checks

For every function and size: the kernels of a forward pass that also solves for the gradient (goal: one),
those of the backward pass, whether the host waits (goal: never), and whether a captured graph gives the same
gradient for new inputs; with the time of a replay, which has no cost of launching from Python.
"""

import sys
from collections.abc import Callable

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.dp import cases
from benchmarks.dp.answers import leaves_on
from benchmarks.dp.cases import TABLES, Size
from benchmarks.dp.contenders import BY_NAME, Values
from benchmarks.dp.measure import captured, replay_ms

SIZES = (Size(16, 30, 30), Size(64, 128, 128), Size(16, 512, 512), Size(4, 2048, 2048), Size(2, 30, 4096))


def main() -> int:
    """Print a line per case; returns 0, or 1 if a goal is missed."""
    if not torch.cuda.is_available():
        print("torch sees no GPU here", file=sys.stderr)
        return 2
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}")
    all_cases = [cases.table_case(function, size) for function in TABLES for size in SIZES]
    is_good = True
    for case in (*all_cases, *cases.CONTRAST_CASES):
        contender = BY_NAME["triton" if case.function in TABLES else "fused"]
        values = contender.build(case, device)
        leaves = leaves_on(device, case)
        _both(values, leaves)
        forward, backward = kernels(values, leaves)
        waits = host_waits(values, leaves)
        difference, replay = replayed_difference(values, leaves)
        has_one_launch = len(forward) == 1 or case.function not in TABLES
        is_right = has_one_launch and waits is None and difference <= 1e-6
        is_good &= is_right
        print(
            f"{'good' if is_right else 'FAULT':6}{case}: {len(forward)} + {len(backward)} kernels, replay "
            f"{replay:.4f} ms, graph differs by {difference:.1e}" + (f", waits: {waits}" if waits else "")
        )
        if not has_one_launch:
            print("      forward: " + ", ".join(forward))
    return 0 if is_good else 1


def kernels(values: Values, leaves: tuple[Tensor, ...]) -> tuple[list[str], list[str]]:
    """Names of what the GPU runs in a forward pass, and in the backward pass of the sum."""
    holder: list[Tensor] = []
    forward = _profiled(lambda: holder.append(values(*leaves)))
    seed = torch.ones_like(holder[0])
    return forward, _profiled(lambda: torch.autograd.grad(holder[0], leaves, seed))


def host_waits(values: Values, leaves: tuple[Tensor, ...]) -> str | None:
    """The complaint of torch about an operation that makes the host wait for the device, or None."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        _both(values, leaves)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


def replayed_difference(values: Values, leaves: tuple[Tensor, ...]) -> tuple[float, float]:
    """Largest difference of a replayed gradient, for other inputs than captured, and ms of a replay."""
    graph, replayed = captured(values, leaves)
    with torch.no_grad():
        for x in leaves:
            x.copy_(x.flip(0))
    expected = _both(values, leaves)
    graph.replay()
    pairs = zip(replayed, expected, strict=True)
    return max(float((x - y).abs().max()) for x, y in pairs), replay_ms(graph)


def _both(values: Values, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(values(*leaves).sum(), leaves)


def _profiled(run: Callable[[], object]) -> list[str]:
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        run()
        torch.cuda.synchronize()
    return [event.name for event in profiled.events() if event.device_type.name == "CUDA"]


if __name__ == "__main__":
    sys.exit(main())
