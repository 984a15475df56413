"""Times, memory and bytes kept of calls that are known to be right."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.dp.answers import answer, fresh_inputs
from benchmarks.dp.contenders import Contender, Values

SHORT_S, LONG_S = 0.02, 1.0
LONG_REPETITIONS = 3
REPLAYS = 20
MAX_CALLS_A_TURN = 200


@dataclass(frozen=True)
class Entry:
    """One contender that takes part in a race, and about how long its calls are."""

    contender: Contender
    values: Values
    leaves: tuple[Tensor, ...]
    about_s: float

    def seconds(self) -> float:
        """One forward and backward pass; on a GPU the time between two events on its stream."""
        inputs = fresh_inputs(self.contender, self.leaves)
        if self.leaves[0].device.type == "cuda":
            start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            torch.cuda.synchronize()
            start.record()
            answer(self.values, inputs)
            end.record()
            end.synchronize()
            return start.elapsed_time(end) / 1e3
        begin = time.perf_counter()
        answer(self.values, inputs)
        return time.perf_counter() - begin


@dataclass(frozen=True)
class Spread:
    """Quantiles of repeated timings, in seconds."""

    repetitions: int
    median: float
    p10: float
    p90: float
    smallest: float

    @classmethod
    def of(cls, times_s: Sequence[float]) -> "Spread":
        p10, median, p90 = np.quantile(times_s, (0.1, 0.5, 0.9))
        return cls(len(times_s), float(median), float(p10), float(p90), min(times_s))


def race(entries: Mapping[str, Entry], *, budget_s: float, rounds: int) -> dict[str, list[float]]:
    """Timings of every entry, taken in turns so that what else the machine does hits all alike.

    A turn is at least one timed call, and as many more as fit into the entry's share of `budget_s`. It begins
    with a call that is not timed if calls are short: caches and threads are then those of this contender.
    Who takes more than LONG_S leaves after LONG_REPETITIONS calls.
    """
    times: dict[str, list[float]] = {name: [] for name in entries}
    last_s = {name: entry.about_s for name, entry in entries.items()}
    for _ in range(rounds):
        for name, entry in entries.items():
            if last_s[name] > LONG_S and len(times[name]) >= LONG_REPETITIONS:
                continue
            if last_s[name] < SHORT_S:
                entry.seconds()
            deadline = time.perf_counter() + budget_s / rounds
            for _ in range(MAX_CALLS_A_TURN):
                last_s[name] = entry.seconds()
                times[name].append(last_s[name])
                if time.perf_counter() + last_s[name] > deadline:
                    break
    return times


def bytes_kept(values: Values, leaves: tuple[Tensor, ...]) -> int:
    """Bytes that a forward pass keeps for the backward pass, besides its inputs.

    Storages of what autograd saves and of tensors that hang on the nodes of the graph, each counted once.
    """
    kept: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        value = values(*leaves)
        nodes, seen = [value.grad_fn], set()
        while nodes:
            node = nodes.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            for attribute in getattr(node, "__dict__", {}).values():
                if isinstance(attribute, Tensor):
                    note(attribute)
            nodes += [following for following, _ in node.next_functions]
    for x in leaves:
        kept.pop(x.untyped_storage().data_ptr(), None)
    return sum(kept.values())


def captured(values: Values, leaves: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...]]:
    """A CUDA graph of a forward and backward pass, and the gradients that it writes."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            answer(values, leaves)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        gradients = answer(values, leaves).gradients
    return graph, gradients


def replay_ms(graph: torch.cuda.CUDAGraph) -> float:
    """Milliseconds of a replay: what is left of a call without launching it from Python."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    graph.replay()
    start.record()
    for _ in range(REPLAYS):
        graph.replay()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / REPLAYS


def peak_on_gpu(run: Callable[[], object]) -> int:
    """Bytes that torch allocates at most during a call, beyond what was allocated before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before
