"""The native kernels beside the references and, on large tables, beside torch's diagonals in float64."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ftcl.dp import fsd, lcs, smooth_dtw, soft_dtw
from ftcl.dp.backends import native, torch_backend
from ftcl.dp.backends.problem import TABLE_NAMES, Problem, Recurrence, Solution, Wants

if native.unavailable() is not None:
    pytest.skip(f"native backend: {native.unavailable()}", allow_module_level=True)

RECURRENCES: tuple[Recurrence, ...] = ("soft_dtw", "smooth_dtw", "fsd", "lcs")
LEVELS = range(native.best_level() + 1)
ALL = Wants.GAMMA_GRADIENT
# Around the 16 rows of a strip, the 16, 8, 4 or 2 steps of a block, and multiples of both.
SIZES = [
    (1, 1),
    (1, 40),
    (40, 1),
    (2, 2),
    (15, 17),
    (16, 16),
    (17, 15),
    (31, 33),
    (33, 32),
    (64, 63),
    (65, 5),
]
LARGE_SIZES = [(127, 129), (128, 128), (129, 127), (300, 3), (3, 300)]


@pytest.fixture(autouse=True)
def _new_memory_holds_nan() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


def random_problem(
    recurrence: Recurrence, shape: tuple[int, int, int], gamma: float | Tensor = 0.3, **options: Any
) -> Problem:
    """Tables in [0, 1) of float64 that float32 holds without rounding."""
    generator = torch.Generator().manual_seed(sum(shape))
    tables = [torch.rand(shape, generator=generator).double() for _ in TABLE_NAMES[recurrence]]
    if recurrence == "lcs":
        options.setdefault("threshold", 0.6)
    return Problem(recurrence, tuple(tables), gamma, **options)


def random_lengths(batch: int, num_rows: int, num_columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(num_rows)
    rows, columns = (torch.randint(1, n + 1, (batch,), generator=generator) for n in (num_rows, num_columns))
    return torch.stack((rows, columns), dim=1)


def in_float32(problem: Problem) -> Problem:
    return replace(problem, tables=tuple(x.float() for x in problem.tables))


def poisoned(problem: Problem) -> Problem:
    """The problem with NaN beyond its lengths."""
    tables = [x.clone() for x in problem.tables]
    assert problem.lengths is not None
    for item, (rows, columns) in enumerate(problem.lengths.tolist()):
        for x in tables:
            x[item, rows:] = torch.nan
            x[item, :, columns:] = torch.nan
    return replace(problem, tables=tuple(tables))


def reference(problem: Problem) -> Solution:
    """Value and unit gradients by the plain loops."""
    tables = [x.detach().clone().requires_grad_() for x in problem.tables]
    batch = len(tables[0])
    gamma: Any = 0
    if not problem.is_hard:
        gamma = torch.as_tensor(problem.gamma, dtype=tables[0].dtype).expand(batch).clone().requires_grad_()
    if problem.recurrence == "soft_dtw":
        value = soft_dtw(*tables, gamma, problem.lengths, bandwidth=problem.bandwidth, backend="reference")
    elif problem.recurrence == "smooth_dtw":
        value = smooth_dtw(*tables, gamma, problem.lengths, backend="reference")
    elif problem.recurrence == "fsd":
        value = fsd(*tables, gamma, problem.lengths, backend="reference")
    else:
        value = lcs(*tables, problem.threshold, problem.lengths, gamma=gamma, backend="reference")
    inputs = tables if problem.is_hard else [*tables, gamma]
    total = value[value.isfinite()].sum()
    gradients = (
        torch.autograd.grad(total, inputs, materialize_grads=True)
        if total.requires_grad
        else [torch.zeros_like(x) for x in inputs]
    )
    gamma_gradient = torch.zeros_like(value) if problem.is_hard else gradients[-1]
    return Solution(value.detach(), tuple(gradients[: len(tables)]), gamma_gradient.detach())


def assert_close(got: Solution, expected: Solution, tolerance: float) -> None:
    options = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(got.value_B, expected.value_B, **options)
    assert len(got.table_gradients) == len(expected.table_gradients)
    for gradient, other in zip(got.table_gradients, expected.table_gradients, strict=True):
        torch.testing.assert_close(gradient, other, **options)
    torch.testing.assert_close(got.gamma_gradient_B, expected.gamma_gradient_B, **options)


def assert_identical(got: Solution, expected: Solution) -> None:
    assert_close(got, expected, tolerance=0.0)


def check_all_kernels(problem: Problem, expected: Solution, tolerance_32: float = 2e-5) -> None:
    """Every instruction set in both precisions, with as little and as much work as can be asked for."""
    for level in LEVELS:
        assert_close(native.solve_at(problem, ALL, level, 1), expected, 1e-12)
        assert_close(native.solve_at(in_float32(problem), ALL, level, 1), expected, tolerance_32)
        for kind in (problem, in_float32(problem)):
            full = native.solve_at(kind, ALL, level, 1)
            tables_only = native.solve_at(kind, Wants.TABLE_GRADIENTS, level, 1)
            value_only = native.solve_at(kind, Wants.VALUE, level, 1)
            assert torch.equal(value_only.value_B, full.value_B)
            assert torch.equal(tables_only.value_B, full.value_B)
            for gradient, other in zip(tables_only.table_gradients, full.table_gradients, strict=True):
                assert torch.equal(gradient, other)
            assert value_only.table_gradients == ()
            assert value_only.gamma_gradient_B is None and tables_only.gamma_gradient_B is None


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (17, 4), (5, 20)])
def test_agrees_with_the_reference(recurrence: Recurrence, size: tuple[int, int], gamma: float) -> None:
    problem = random_problem(recurrence, (2, *size), gamma)
    check_all_kernels(problem, reference(problem))


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("size", SIZES + LARGE_SIZES)
def test_agrees_with_the_diagonals_of_torch(
    recurrence: Recurrence, size: tuple[int, int], gamma: float
) -> None:
    problem = random_problem(recurrence, (2, *size), gamma)
    check_all_kernels(problem, torch_backend.solve(problem, ALL), 2e-4)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_lengths_cut_off_whatever_lies_beyond(recurrence: Recurrence, gamma: float) -> None:
    shape = (12, 36, 40)
    problem = random_problem(recurrence, shape, gamma, lengths=random_lengths(*shape))
    expected = torch_backend.solve(problem, ALL)
    check_all_kernels(poisoned(problem), expected, 5e-5)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
def test_lengths_may_be_narrow_integers(dtype: torch.dtype) -> None:
    lengths = random_lengths(4, 9, 9)
    problem = random_problem("soft_dtw", (4, 9, 9), lengths=lengths)
    assert_identical(
        native.solve(replace(problem, lengths=lengths.to(dtype)), ALL), native.solve(problem, ALL)
    )


@pytest.mark.parametrize("bandwidth", [0, 1, 4, 11])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("size", [(20, 20), (37, 20), (20, 50), (1, 6), (6, 1)])
def test_band(size: tuple[int, int], gamma: float, bandwidth: int) -> None:
    problem = random_problem("soft_dtw", (2, *size), gamma, bandwidth=bandwidth)
    check_all_kernels(problem, torch_backend.solve(problem, ALL), 5e-5)


@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_band_of_padded_items(gamma: float) -> None:
    shape = (20, 40, 36)
    problem = random_problem("soft_dtw", shape, gamma, lengths=random_lengths(*shape), bandwidth=1)
    expected = torch_backend.solve(problem, ALL)
    assert expected.value_B.isinf().any() and expected.value_B.isfinite().any()
    check_all_kernels(poisoned(problem), expected, 5e-5)


def test_a_band_wider_than_the_table_changes_nothing() -> None:
    problem = random_problem("soft_dtw", (2, 20, 33))
    expected = native.solve(problem, ALL)
    for bandwidth in (33, 2**31, 2**70):
        assert_identical(native.solve(replace(problem, bandwidth=bandwidth), ALL), expected)


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("size", [(6, 7), (18, 4)])
def test_ties_fall_as_in_the_reference(recurrence: Recurrence, size: tuple[int, int]) -> None:
    problem = random_problem(recurrence, (4, *size), 0.0, threshold=1.0)
    problem = replace(problem, tables=tuple((3 * x).floor() for x in problem.tables))
    expected = reference(problem)
    for level in LEVELS:
        assert_identical(native.solve_at(problem, ALL, level, 1), expected)
        assert_identical(native.solve_at(in_float32(problem), ALL, level, 1), expected)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_gamma_and_threshold_per_item(recurrence: Recurrence) -> None:
    gamma = torch.tensor([0.05, 0.5, 3.0])
    threshold = torch.tensor([0.2, 0.6, 0.9]) if recurrence == "lcs" else 0.0
    problem = random_problem(recurrence, (3, 19, 21), gamma, threshold=threshold)
    check_all_kernels(problem, torch_backend.solve(problem, ALL), 5e-5)
    first = native.solve(problem, ALL)
    for item in range(3):
        alone = replace(
            problem,
            tables=tuple(x[item : item + 1] for x in problem.tables),
            gamma=gamma[item],
            threshold=threshold[item] if isinstance(threshold, Tensor) else threshold,
        )
        assert torch.equal(native.solve(alone, ALL).value_B[0], first.value_B[item])


def test_threshold_is_compared_in_the_dtype_of_the_table() -> None:
    exactly_threshold = torch.full((1, 2, 2), 0.1)
    for gamma in (0.0, 0.1):
        problem = Problem("lcs", (exactly_threshold,), gamma, threshold=0.1)
        assert not native.solve(problem, ALL).table_gradients[0].any()


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_threads_change_no_bit(recurrence: Recurrence) -> None:
    for gamma in (0.0, 0.3):
        problem = in_float32(random_problem(recurrence, (7, 240, 220), gamma))
        alone = native.solve_at(problem, ALL, -1, 1)
        for num_threads in (2, 5, 1000):
            assert_identical(native.solve_at(problem, ALL, -1, num_threads), alone)


def test_callers_on_different_threads_do_not_disturb_each_other() -> None:
    problems = [in_float32(random_problem("fsd", (3, 190, size))) for size in (180, 190, 200)]
    expected = [native.solve_at(problem, ALL, -1, 1) for problem in problems]
    solved: list[list[Solution]] = [[], [], []]

    def work(index: int) -> None:
        solved[index] = [native.solve_at(problems[index], ALL, -1, 2) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for solutions, one in zip(solved, expected, strict=True):
        assert len(solutions) == 20
        for solution in solutions:
            assert_identical(solution, one)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_a_table_whose_weights_do_not_fit_the_cache(recurrence: Recurrence) -> None:
    problem = random_problem(recurrence, (1, 500, 1100), lengths=torch.tensor([[490, 1090]]))
    expected = torch_backend.solve(problem, ALL)
    assert_close(native.solve(poisoned(problem), ALL), expected, 1e-11)
    got = native.solve(in_float32(problem), ALL)
    torch.testing.assert_close(got.table_gradients[0], expected.table_gradients[0].float(), rtol=0, atol=1e-4)


@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_small_gamma_costs_no_digits(recurrence: Recurrence) -> None:
    problem = random_problem(recurrence, (1, 512, 512), 0.01, threshold=25.0)
    problem = replace(problem, tables=tuple((50 * x).float().double() for x in problem.tables))
    exact = torch_backend.solve(problem, ALL).table_gradients
    for level in LEVELS:
        for gradient, other in zip(
            native.solve_at(in_float32(problem), ALL, level, 1).table_gradients, exact, strict=True
        ):
            assert (gradient - other).abs().max() < 5e-5 * other.abs().max()


@pytest.mark.parametrize("recurrence", RECURRENCES)
@pytest.mark.parametrize("gamma", [1e-7, 1e-15])
def test_gamma_too_small_for_float32_gives_the_hard_path(recurrence: Recurrence, gamma: float) -> None:
    problem = random_problem(recurrence, (2, 20, 20), gamma)
    hard = native.solve(replace(problem, gamma=0.0), ALL)
    for kind in (problem, in_float32(problem)):
        got = native.solve(kind, ALL)
        torch.testing.assert_close(got.value_B, hard.value_B, check_dtype=False)
        assert got.value_B.dtype == got.table_gradients[0].dtype == kind.tables[0].dtype
        for gradient, path in zip(got.table_gradients, hard.table_gradients, strict=True):
            torch.testing.assert_close(gradient, path, check_dtype=False)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_cells_that_are_no_numbers_are_refused(recurrence: Recurrence, gamma: float, value: float) -> None:
    for index, name in enumerate(TABLE_NAMES[recurrence]):
        for cell in ((0, 0), (20, 33), (19, 34), (20, 0), (7, 9)):
            problem = random_problem(recurrence, (3, 23, 37), gamma)
            lengths = torch.tensor([[23, 37], [21, 35], [23, 37]])
            problem = replace(problem, lengths=lengths)
            problem.tables[index][(1, *cell)] = value
            for kind in (problem, in_float32(problem)):
                with pytest.raises(ValueError) as raised:
                    native.solve(kind, Wants.VALUE)
                message = f"{name} must be finite within lengths, but holds NaN or infinity"
                assert str(raised.value) == message


def test_strides_and_bfloat16() -> None:
    problem = in_float32(random_problem("fsd", (3, 18, 20)))
    expected = native.solve(problem, ALL)

    def with_tables(*tables: Tensor) -> Solution:
        return native.solve(replace(problem, tables=tables), ALL)

    match, gap = problem.tables
    wide = torch.full((3, 30, 41), torch.nan)
    wide[:, 7:25, 3:23] = match
    assert_identical(with_tables(wide[:, 7:25, 3:23], gap), expected)
    assert_identical(with_tables(match, gap.mT.contiguous().mT), expected)
    assert_identical(with_tables(match.permute(1, 0, 2).contiguous().permute(1, 0, 2), gap), expected)
    one_for_all = replace(problem, tables=(match[:1].expand(3, 18, 20), gap[:, :1].expand(3, 18, 20)))
    copied = replace(one_for_all, tables=tuple(x.contiguous() for x in one_for_all.tables))
    assert_identical(native.solve(one_for_all, ALL), native.solve(copied, ALL))
    narrow = [x.bfloat16() for x in problem.tables]
    assert_identical(with_tables(*narrow), with_tables(*[x.float() for x in narrow]))


@pytest.mark.parametrize("gamma", [0.0, 0.3])
@pytest.mark.parametrize("recurrence", RECURRENCES)
def test_empty_batch(recurrence: Recurrence, gamma: float) -> None:
    solution = native.solve(random_problem(recurrence, (0, 4, 5), gamma), ALL)
    assert solution.value_B.shape == (0,)
    assert all(x.shape == (0, 4, 5) for x in solution.table_gradients)


def test_an_instruction_set_that_the_machine_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="level"):
        native.solve_at(random_problem("lcs", (1, 2, 2)), ALL, native.best_level() + 1, 1)


def test_unavailable_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert native.unavailable("cpu") is None
    assert "cuda" in str(native.unavailable("cuda"))
    monkeypatch.setattr(native, "__file__", str(tmp_path / "native.py"))
    native._load.cache_clear()
    try:
        assert "C compiler" in str(native.unavailable())
        with pytest.raises(RuntimeError, match="C compiler"):
            native.solve(random_problem("lcs", (1, 2, 2)), ALL)
        (tmp_path / "_native.abi3.so").write_bytes(b"no library")
        native._load.cache_clear()
        assert "cannot be loaded" in str(native.unavailable())
    finally:
        native._load.cache_clear()
