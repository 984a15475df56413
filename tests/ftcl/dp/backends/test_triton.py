"""The Triton kernels beside the references: on a GPU where there is one, else in Triton's interpreter."""

import functools
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ftcl.dp import fsd, lcs, smooth_dtw, soft_dtw
from ftcl.dp.backends import triton_backend
from ftcl.dp.backends.problem import TABLE_NAMES, Problem, Recurrence, Solution, Wants
from ftcl.dp.backends.triton_backend import Tuning, solve, unavailable

HAS_GPU = torch.cuda.is_available()
if not HAS_GPU:
    # Triton looks at it when it is imported, so this must come before anything else imports Triton.
    os.environ.setdefault("TRITON_INTERPRET", "1")
pytest.importorskip("triton")

ROOT = Path(__file__).parents[4]
DEVICE = "cuda" if HAS_GPU else "cpu"
RECURRENCES: tuple[Recurrence, ...] = ("soft_dtw", "smooth_dtw", "fsd", "lcs")
ALL = Wants.GAMMA_GRADIENT
needs_gpu = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _new_memory_holds_nan() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def random_problem(
    recurrence: Recurrence,
    shape: tuple[int, int, int],
    gamma: float | Tensor = 0.3,
    dtype: torch.dtype = torch.float64,
    **options: Any,
) -> Problem:
    generator = torch.Generator().manual_seed(sum(shape))
    tables = [torch.rand(shape, generator=generator, dtype=torch.float64) for _ in TABLE_NAMES[recurrence]]
    on_device = {name: x.to(DEVICE) if isinstance(x, Tensor) else x for name, x in options.items()}
    if recurrence == "lcs":
        on_device.setdefault("threshold", 0.6)
    gamma = gamma.to(DEVICE) if isinstance(gamma, Tensor) else gamma
    return Problem(recurrence, tuple(x.to(dtype).to(DEVICE) for x in tables), gamma, **on_device)


def reference(problem: Problem) -> Solution:
    """Value and unit gradients by the plain loops, in the dtype of the problem's tables."""
    tables = [x.cpu().detach().requires_grad_() for x in problem.tables]
    batch = tables[0].shape[0]
    gamma: float | Tensor = problem.gamma
    if not problem.is_hard:
        gamma = torch.as_tensor(gamma, dtype=tables[0].dtype, device="cpu").expand(batch).clone()
        gamma.requires_grad_()
    lengths = None if problem.lengths is None else problem.lengths.cpu()
    options: dict[str, Any] = {"backend": "reference"}
    match problem.recurrence:
        case "soft_dtw":
            value_B = soft_dtw(*tables, gamma, lengths, bandwidth=problem.bandwidth, **options)
        case "smooth_dtw":
            value_B = smooth_dtw(*tables, gamma, lengths, **options)
        case "fsd":
            value_B = fsd(*tables, gamma, lengths, **options)
        case "lcs":
            threshold = problem.threshold
            threshold = threshold.cpu() if isinstance(threshold, Tensor) else threshold
            value_B = lcs(*tables, threshold, lengths, gamma=gamma, **options)
    # An infinite value is a constant, which autograd must not be asked about.
    inputs = [*tables, gamma] if isinstance(gamma, Tensor) else tables
    finite_B = value_B[value_B.isfinite()]
    gradients = torch.autograd.grad(finite_B.sum(), inputs, allow_unused=True, materialize_grads=True)
    gamma_gradient_B = gradients[-1] if isinstance(gamma, Tensor) else torch.zeros_like(value_B)
    return Solution(value_B.detach(), gradients[: len(tables)], gamma_gradient_B)


def assert_agree(actual: Solution, expected: Solution, **tolerance: float) -> None:
    assert actual.gamma_gradient_B is not None
    assert len(actual.table_gradients) == len(expected.table_gradients)
    for a, e in zip(
        (actual.value_B, *actual.table_gradients, actual.gamma_gradient_B),
        (expected.value_B, *expected.table_gradients, expected.gamma_gradient_B),
        strict=True,
    ):
        torch.testing.assert_close(a.cpu(), e.to(a.dtype), **tolerance)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 4), (1, 4, 1), (2, 5, 3)])
def test_agrees_with_the_loops(recurrence: Recurrence, shape: tuple[int, int, int], gamma: float) -> None:
    problem = random_problem(recurrence, shape, gamma)
    assert_agree(solve(problem, ALL), reference(problem))


# Bands of one and more lanes, the last one full or not; as many lanes as lines; more lanes than lines.
@pytest.mark.parametrize(
    ("recurrence", "shape", "max_lanes"),
    [
        ("fsd", (1, 3, 5), 1),
        ("soft_dtw", (1, 4, 5), 2),
        ("smooth_dtw", (1, 6, 5), 2),
        ("lcs", (1, 5, 5), 2),
        ("fsd", (1, 9, 7), 4),
        ("soft_dtw", (1, 8, 9), 8),
        ("lcs", (1, 17, 16), 2048),
    ],
)
def test_lanes_and_bands(recurrence: Recurrence, shape: tuple[int, int, int], max_lanes: int) -> None:
    problem = random_problem(recurrence, shape)
    assert_agree(solve(problem, ALL, Tuning(max_lanes=max_lanes)), reference(problem))


@pytest.mark.parametrize(
    ("lines", "lanes", "warps"),
    [(1, 32, 1), (32, 32, 1), (33, 64, 1), (128, 128, 1), (129, 256, 4), (1025, 2048, 16), (4096, 2048, 16)],
)
def test_lanes_and_warps_of_a_program(lines: int, lanes: int, warps: int) -> None:
    assert (Tuning().lanes(lines), Tuning().warps(lanes)) == (lanes, warps)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_bands_of_hard_tables(recurrence: Recurrence) -> None:
    problem = random_problem(recurrence, (1, 6, 5), gamma=0.0)
    assert_agree(solve(problem, ALL, Tuning(max_lanes=2)), reference(problem))


@pytest.mark.parametrize(("max_lanes", "dtype"), [(2, torch.int16), (2048, torch.int32), (2048, torch.int64)])
def test_what_lies_beyond_lengths_has_no_effect(max_lanes: int, dtype: torch.dtype) -> None:
    lengths = torch.tensor([[1, 1], [3, 5], [4, 2]], dtype=dtype)
    problem = random_problem("fsd", (3, 4, 5), lengths=lengths)
    expected = reference(problem)
    for table_BNM in problem.tables:
        for item_NM, (rows, columns) in zip(table_BNM, lengths.tolist(), strict=True):
            item_NM[rows:] = torch.nan
            item_NM[:, columns:] = torch.nan
    assert_agree(solve(problem, ALL, Tuning(max_lanes=max_lanes)), expected)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_lengths_of_a_transposed_hard_table(recurrence: Recurrence) -> None:
    lengths = torch.tensor([[6, 3], [2, 4]])
    problem = random_problem(recurrence, (2, 6, 4), gamma=0.0, lengths=lengths)
    assert_agree(solve(problem, ALL), reference(problem))


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 5, 4)])
def test_ties(recurrence: Recurrence, shape: tuple[int, int, int]) -> None:
    problem = random_problem(recurrence, shape, gamma=0.0)
    tied = replace(problem, tables=tuple((3 * x).floor() for x in problem.tables), threshold=1.0)
    assert_agree(solve(tied, ALL), reference(tied), rtol=0, atol=0)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_hard_tables_in_float32_are_exactly_those_of_the_loops(recurrence: Recurrence) -> None:
    problem = random_problem(recurrence, (1, 7, 6), gamma=0.0, dtype=torch.float32)
    assert_agree(solve(problem, ALL), reference(problem), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("shape", "bandwidth"), [((2, 4, 7), 1), ((2, 7, 4), 2), ((1, 5, 5), 0), ((1, 1, 4), 2), ((1, 3, 2), 99)]
)
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_bandwidth(shape: tuple[int, int, int], bandwidth: int, gamma: float) -> None:
    problem = random_problem("soft_dtw", shape, gamma, bandwidth=bandwidth)
    assert_agree(solve(problem, ALL), reference(problem))


def test_bandwidth_is_that_of_each_item_and_may_leave_no_path() -> None:
    lengths = torch.tensor([[2, 6], [5, 5], [3, 4]])
    problem = random_problem("soft_dtw", (3, 5, 6), lengths=lengths, bandwidth=1)
    actual = solve(problem, ALL, Tuning(max_lanes=2))
    assert actual.value_B.isinf().tolist() == [True, False, False]
    assert_agree(actual, reference(problem))


@pytest.mark.parametrize("recurrence", ["fsd", "lcs"])
def test_gamma_and_threshold_per_item(recurrence: Recurrence) -> None:
    gamma = torch.tensor([0.01, 0.0, 0.5, 0.0, 20.0])[::2]
    threshold = torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64) if recurrence == "lcs" else 0.0
    problem = random_problem(recurrence, (3, 3, 4), gamma, threshold=threshold)
    assert_agree(solve(problem, ALL), reference(problem))


def test_gamma_and_threshold_of_all_items() -> None:
    problem = random_problem(
        "lcs", (2, 3, 4), torch.tensor(0.25), threshold=torch.tensor(0.5, dtype=torch.bfloat16)
    )
    assert_agree(solve(problem, ALL), reference(problem))


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_bfloat16_is_computed_in_float32(recurrence: Recurrence) -> None:
    problem = random_problem(recurrence, (1, 4, 5), dtype=torch.bfloat16)
    actual = solve(problem, ALL)
    assert {x.dtype for x in (actual.value_B, *actual.table_gradients)} == {torch.float32}
    exact = replace(problem, tables=tuple(x.double() for x in problem.tables))
    assert_agree(actual, reference(exact), rtol=1e-5, atol=1e-6)


def test_any_strides() -> None:
    problem = random_problem("fsd", (2, 6, 4))
    match, gap = problem.tables
    strided = replace(problem, tables=(match.mT[:, :, ::2], gap[:, :3, :1].expand(-1, -1, 4).mT))
    plain = replace(strided, tables=tuple(x.contiguous() for x in strided.tables))
    assert_agree(solve(strided, ALL), reference(plain))


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_float32_keeps_its_digits_at_a_low_temperature(recurrence: Recurrence) -> None:
    # One float rounds numbers near 7000 to 5e-4, a twentieth of γ.
    problem = random_problem(recurrence, (1, 12, 11), gamma=0.01, dtype=torch.float32, threshold=0.05)
    first, *others = problem.tables
    first = 0.05 * first
    first[:, 0, 0] = 7000.0
    problem = replace(problem, tables=(first, *others))
    exact = replace(problem, tables=tuple(x.double() for x in problem.tables))
    assert_agree(solve(problem, ALL), reference(exact), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("gamma", [1e-18, 1e6])
def test_extreme_temperatures(recurrence: Recurrence, gamma: float) -> None:
    problem = random_problem(recurrence, (1, 3, 4), gamma, dtype=torch.float32)
    exact = replace(problem, tables=tuple(x.double() for x in problem.tables))
    assert_agree(solve(problem, ALL), reference(exact), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wants", Wants)
def test_only_what_is_wanted(wants: Wants) -> None:
    problem = random_problem("fsd", (2, 3, 4))
    full, partial = solve(problem, ALL), solve(problem, wants)
    assert torch.equal(partial.value_B, full.value_B)
    assert len(partial.table_gradients) == (2 if wants >= Wants.TABLE_GRADIENTS else 0)
    assert (partial.gamma_gradient_B is not None) == (wants == Wants.GAMMA_GRADIENT)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_empty_batch(recurrence: Recurrence) -> None:
    solution = solve(random_problem(recurrence, (0, 3, 4)), ALL)
    assert solution.value_B.shape == (0,)
    assert {x.shape for x in solution.table_gradients} == {(0, 3, 4)}


def test_says_why_it_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unavailable(torch.device("cuda")) is None
    assert "computes on GPUs" in str(unavailable(torch.device("cpu")))
    monkeypatch.setitem(sys.modules, "triton", None)  # as if it could not be imported
    module = runpy.run_path(triton_backend.__file__)
    assert "pip install triton" in module["unavailable"](torch.device("cuda"))


@functools.cache
def findings() -> dict[str, Any]:
    script = Path(__file__).with_name("triton_for_hopper.py")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    result: dict[str, Any] = json.loads(output)
    return result


def test_kernels_compile_for_a_gpu_without_spilling_or_moving_data_between_threads() -> None:
    assert len(findings()["kernels"]) == 4
    for name, found in findings()["kernels"].items():
        assert found["spilled_bytes"] == 0, name
        # A weight must be read by the thread that stored it.
        assert found["layout_conversions"] == 0, name


def test_one_warp_exchanges_by_shuffles_and_never_waits() -> None:
    one_warp = {name: found for name, found in findings()["kernels"].items() if found["warps"] == 1}
    assert len(one_warp) == 3
    for name, found in one_warp.items():
        assert found["barriers"] == 0, name
        assert found["shuffles"] > 0, name


def test_tables_of_other_shapes_and_strides_need_no_other_kernel() -> None:
    assert findings()["kernels_for_four_shapes"] == 1


def test_logarithms_take_one_instruction() -> None:
    assert findings()["kernels"]["fsd, one warp"]["fast_logarithms"] > 0


@needs_gpu
def test_no_synchronisation_and_cuda_graphs() -> None:
    lengths = torch.tensor([[200, 100], [3, 300], [256, 300]])
    problem = random_problem("fsd", (3, 256, 300), torch.tensor(0.1), torch.float32, lengths=lengths)
    solve(problem, ALL)  # compiles
    graph = torch.cuda.CUDAGraph()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.graph(graph):
            captured = solve(problem, ALL)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for table in problem.tables:
        table.uniform_()
    graph.replay()
    torch.testing.assert_close(captured, solve(problem, ALL))


@needs_gpu
@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize(
    "shape", [(1, 33, 34), (2, 128, 130), (1, 300, 257), (1, 700, 520), (1, 1025, 1100), (1, 2100, 2050)]
)
def test_large_tables(recurrence: Recurrence, shape: tuple[int, int, int]) -> None:
    problem = random_problem(recurrence, shape, dtype=torch.float32)
    exact = replace(problem, tables=tuple(x.double() for x in problem.tables))
    on_cpu = replace(exact, tables=tuple(x.cpu() for x in exact.tables))
    from ftcl.dp.backends.torch_backend import solve as solve_by_diagonals

    assert_agree(solve(problem, ALL), solve_by_diagonals(on_cpu, ALL), rtol=1e-4, atol=1e-5)
