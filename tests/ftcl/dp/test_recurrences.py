"""The contract that every recurrence keeps on every backend."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from ftcl.dp import available_backends, fsd, lcs, smooth_dtw, soft_dtw

THRESHOLD = 0.5


def call_fsd(
    tables: list[Tensor], gamma: float | Tensor, lengths: Tensor | None = None, **options: Any
) -> Tensor:
    match, gap = tables
    return fsd(match, gap, gamma, lengths, **options)


def call_lcs(
    tables: list[Tensor], gamma: float | Tensor, lengths: Tensor | None = None, **options: Any
) -> Tensor:
    (similarity,) = tables
    return lcs(similarity, THRESHOLD, lengths, gamma=gamma, **options)


def call_soft_dtw(
    tables: list[Tensor], gamma: float | Tensor, lengths: Tensor | None = None, **options: Any
) -> Tensor:
    (cost,) = tables
    return soft_dtw(cost, gamma, lengths, **options)


def call_banded_soft_dtw(
    tables: list[Tensor], gamma: float | Tensor, lengths: Tensor | None = None, **options: Any
) -> Tensor:
    (cost,) = tables
    # Cuts corners off; in some random tables, with few rows, it leaves no path.
    return soft_dtw(cost, gamma, lengths, bandwidth=3, **options)


def call_smooth_dtw(
    tables: list[Tensor], gamma: float | Tensor, lengths: Tensor | None = None, **options: Any
) -> Tensor:
    (cost,) = tables
    return smooth_dtw(cost, gamma, lengths, **options)


@dataclass(frozen=True)
class Recurrence:
    call: Callable[..., Tensor]
    first_table: str
    num_tables: int = 1

    def tables(
        self, shape: tuple[int, int, int], seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        tables = [torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(self.num_tables)]
        return [x.to(dtype).requires_grad_() for x in tables]


RECURRENCES = {
    "fsd": Recurrence(call_fsd, "match_BNM", num_tables=2),
    "lcs": Recurrence(call_lcs, "similarity_BNM"),
    "soft_dtw": Recurrence(call_soft_dtw, "cost_BNM"),
    "soft_dtw with a band": Recurrence(call_banded_soft_dtw, "cost_BNM"),
    "smooth_dtw": Recurrence(call_smooth_dtw, "cost_BNM"),
}
BACKENDS = sorted(available_backends("cpu"))
FAST_BACKENDS = [name for name in BACKENDS if name != "reference"]
HARD, SOFT = 0.0, 0.1


@pytest.fixture(params=RECURRENCES)
def recurrence(request: pytest.FixtureRequest) -> Recurrence:
    return RECURRENCES[request.param]


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=FAST_BACKENDS)
def fast_backend(request: pytest.FixtureRequest) -> str:
    return request.param


def per_item(gamma: float, batch: int) -> Tensor:
    steps = torch.arange(1, batch + 1, dtype=torch.float64)
    return (gamma * steps).requires_grad_()


def random_lengths(shape: tuple[int, int, int], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    batch, *limits = shape
    return torch.stack([torch.randint(1, n + 1, (batch,), generator=generator) for n in limits], dim=1)


def value_and_gradients(
    recurrence: Recurrence,
    tables: list[Tensor],
    gamma: float | Tensor,
    lengths: Tensor | None = None,
    **options: Any,
) -> list[Tensor]:
    value_B = recurrence.call(tables, gamma, lengths, **options)
    seed_B = torch.linspace(-1.0, 2.0, len(value_B), dtype=value_B.dtype)
    inputs = [*tables, gamma] if isinstance(gamma, Tensor) else tables
    return [value_B.detach(), *torch.autograd.grad(value_B, inputs, seed_B)]


@pytest.mark.parametrize("shape", [(2, 4, 3), (2, 3, 5), (3, 1, 4), (3, 4, 1), (1, 1, 1)])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_gradients_are_derivatives_of_the_values(
    recurrence: Recurrence, backend: str, shape: tuple[int, int, int], with_lengths: bool
) -> None:
    tables = recurrence.tables(shape)
    lengths = random_lengths(shape, seed=1) if with_lengths else None

    def soft(gamma: Tensor, *tables: Tensor) -> Tensor:
        return recurrence.call(list(tables), gamma, lengths, backend=backend)

    def hard(*tables: Tensor) -> Tensor:
        return recurrence.call(list(tables), HARD, lengths, backend=backend)

    assert torch.autograd.gradcheck(soft, (per_item(SOFT, shape[0]), *tables))
    assert torch.autograd.gradcheck(
        soft, (torch.tensor(0.3, dtype=torch.float64, requires_grad=True), *tables)
    )
    assert torch.autograd.gradcheck(hard, tuple(tables))


@settings(deadline=None, max_examples=40)
@given(
    name=st.sampled_from(sorted(RECURRENCES)),
    fast_backend=st.sampled_from(FAST_BACKENDS),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 8)),
    seed=st.integers(0, 10_000),
    gamma=st.sampled_from([None, 1e-3, 0.1, 5.0]),
    with_lengths=st.booleans(),
    coarse=st.booleans(),
)
# The derivative to γ was once a difference of numbers a million times as large, in the reference.
@example("smooth_dtw", "torch", (1, 2, 5), 2, 1e-3, False, False)
def test_backends_agree(
    name: str,
    fast_backend: str,
    shape: tuple[int, int, int],
    seed: int,
    gamma: float | None,
    with_lengths: bool,
    coarse: bool,
) -> None:
    recurrence = RECURRENCES[name]
    tables = recurrence.tables(shape, seed)
    if coarse:  # few distinct values: many ties
        tables = [(3 * x).round().div(3).detach().requires_grad_() for x in tables]
    gamma_or_zero = HARD if gamma is None else per_item(gamma, shape[0])
    lengths = random_lengths(shape, seed) if with_lengths else None
    expected = value_and_gradients(recurrence, tables, gamma_or_zero, lengths, backend="reference")
    actual = value_and_gradients(recurrence, tables, gamma_or_zero, lengths, backend=fast_backend)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("shape", [(2, 60, 2), (2, 2, 60), (1, 17, 33)])
@pytest.mark.parametrize("gamma", [HARD, SOFT])
def test_backends_agree_on_long_tables(
    recurrence: Recurrence, fast_backend: str, shape: tuple[int, int, int], gamma: float
) -> None:
    tables = recurrence.tables(shape)
    lengths = random_lengths(shape, seed=3)
    expected = value_and_gradients(recurrence, tables, gamma, lengths, backend="reference")
    actual = value_and_gradients(recurrence, tables, gamma, lengths, backend=fast_backend)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("gamma", [0.01, 0.1])
def test_float32_keeps_its_digits_at_low_temperature(
    recurrence: Recurrence, fast_backend: str, gamma: float
) -> None:
    tables = recurrence.tables((2, 30, 30), dtype=torch.float32)
    exact = [x.detach().double().requires_grad_() for x in tables]
    temperature = torch.tensor(gamma, dtype=torch.float64, requires_grad=True)
    expected = value_and_gradients(recurrence, exact, temperature, backend="reference")
    actual = value_and_gradients(recurrence, tables, temperature, backend=fast_backend)
    # A derivative of the softmin-weighted mean multiplies rounding by how far its candidates lie apart.
    digits = 1e-3 if recurrence.call is call_smooth_dtw else 1e-4
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=digits, atol=digits * float(b.abs().max()))


@pytest.mark.parametrize("gamma", [HARD, SOFT])
def test_padding_has_no_effect_even_when_it_is_nan(
    recurrence: Recurrence, backend: str, gamma: float
) -> None:
    shape = (4, 5, 6)
    lengths = torch.tensor([[5, 6], [1, 4], [3, 1], [2, 5]])
    temperature_B = per_item(gamma, 4)
    temperature = temperature_B if gamma else HARD
    tables = [x.detach() for x in recurrence.tables(shape)]
    for x in tables:
        for item, (rows, columns) in enumerate(lengths.tolist()):
            x[item, rows:] = torch.nan
            x[item, :, columns:] = torch.inf
    poisoned = [x.requires_grad_() for x in tables]
    value_B, *gradients = value_and_gradients(recurrence, poisoned, temperature, lengths, backend=backend)
    seed_B = torch.linspace(-1.0, 2.0, 4, dtype=torch.float64)
    for item, (rows, columns) in enumerate(lengths.tolist()):
        alone = [x.detach()[item : item + 1, :rows, :columns].requires_grad_() for x in poisoned]
        alone_gamma = temperature_B[item].detach().requires_grad_() if gamma else HARD
        alone_value, *alone_gradients = value_and_gradients(recurrence, alone, alone_gamma, backend=backend)
        torch.testing.assert_close(value_B[item], alone_value[0])
        # One item alone is seeded with -1.
        for full, part in zip(gradients, alone_gradients, strict=True):
            expected = torch.zeros_like(full[item])
            (expected[:rows, :columns] if expected.ndim else expected).copy_(part.squeeze(0) * -seed_B[item])
            torch.testing.assert_close(full[item], expected)


def test_gamma_goes_to_the_hard_maximum(recurrence: Recurrence, backend: str) -> None:
    tables = recurrence.tables((3, 6, 5))
    hard = value_and_gradients(recurrence, tables, HARD, backend=backend)
    gamma = 1e-7
    soft = value_and_gradients(recurrence, tables, gamma, backend=backend)
    # Equal alternatives remain in lcs, where gaps cost nothing: there the value, not the path, is unique.
    torch.testing.assert_close(soft[0], hard[0], rtol=0, atol=gamma * 11 * 1.1)
    if recurrence.first_table != "similarity_BNM":
        torch.testing.assert_close(soft[1:], hard[1:])


def test_number_scalar_tensor_and_tensor_per_item_mean_the_same(recurrence: Recurrence, backend: str) -> None:
    tables = recurrence.tables((3, 4, 4))
    number = recurrence.call(tables, SOFT, backend=backend)
    scalar = recurrence.call(tables, torch.tensor(SOFT, dtype=torch.float64), backend=backend)
    vector = recurrence.call(tables, torch.full((3,), SOFT, dtype=torch.float64), backend=backend)
    torch.testing.assert_close(scalar, number)
    torch.testing.assert_close(vector, number)


@pytest.mark.parametrize("gamma", [HARD, SOFT])
@pytest.mark.parametrize("with_lengths", [False, True])
def test_empty_batch_gives_an_empty_result_with_gradients(
    recurrence: Recurrence, backend: str, gamma: float, with_lengths: bool
) -> None:
    tables = recurrence.tables((0, 3, 4))
    lengths = torch.zeros(0, 2, dtype=torch.int64) if with_lengths else None
    temperature = torch.tensor(gamma, dtype=torch.float64, requires_grad=True) if gamma else HARD
    value_B, *gradients = value_and_gradients(recurrence, tables, temperature, lengths, backend=backend)
    assert value_B.shape == (0,)
    assert [x.shape for x in gradients[: len(tables)]] == [(0, 3, 4)] * len(tables)
    if gamma:
        assert gradients[-1] == 0.0


@pytest.mark.parametrize("gamma", [HARD, SOFT])
def test_bfloat16_is_computed_in_float32(recurrence: Recurrence, backend: str, gamma: float) -> None:
    tables = recurrence.tables((2, 5, 4), dtype=torch.bfloat16)
    wide = [x.detach().float().requires_grad_() for x in tables]
    value_B, *gradients = value_and_gradients(recurrence, tables, gamma, backend=backend)
    expected_B, *expected = value_and_gradients(recurrence, wide, gamma, backend=backend)
    torch.testing.assert_close(value_B, expected_B, rtol=0, atol=0)
    torch.testing.assert_close(gradients, [x.bfloat16() for x in expected], rtol=0, atol=0)


def test_inputs_stay_as_they_were_and_may_be_strided(recurrence: Recurrence, backend: str) -> None:
    tables = [x.detach() for x in recurrence.tables((2, 6, 4))]
    copies = [x.clone() for x in tables]
    strided = [x.mT.contiguous().mT.requires_grad_() for x in copies]
    plain = [x.clone().requires_grad_() for x in copies]
    actual = value_and_gradients(recurrence, strided, SOFT, backend=backend)
    expected = value_and_gradients(recurrence, plain, SOFT, backend=backend)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close([x.detach() for x in (*strided, *plain)], tables * 2, rtol=0, atol=0)


def test_the_reference_differentiates_twice(recurrence: Recurrence) -> None:
    def soft(gamma: Tensor, *tables: Tensor) -> Tensor:
        return recurrence.call(list(tables), gamma, torch.tensor([[3, 2], [2, 3]]), backend="reference")

    assert torch.autograd.gradgradcheck(soft, (per_item(0.3, 2), *recurrence.tables((2, 3, 3))))


@pytest.mark.parametrize("gamma", [HARD, SOFT])
def test_a_second_derivative_of_a_fast_backend_raises(
    recurrence: Recurrence, fast_backend: str, gamma: float
) -> None:
    tables = recurrence.tables((2, 3, 3))
    value = recurrence.call(tables, gamma, backend=fast_backend).sum()
    (gradient,) = torch.autograd.grad(value, tables[0], create_graph=True)
    # Beside another term, a detached gradient would pass unnoticed.
    penalty = (gradient + tables[0]).square().sum()
    with pytest.raises(RuntimeError, match=f"{fast_backend} backend has no second derivative; pass backend="):
        penalty.backward()


def test_values_on_a_device_are_not_looked_at(recurrence: Recurrence) -> None:
    # The meta device has no values: whoever looks at one gets an error.
    tables = [torch.empty(2, 3, 4, device="meta", requires_grad=True) for _ in range(recurrence.num_tables)]
    lengths = torch.empty(2, 2, device="meta", dtype=torch.int64)
    gamma = torch.empty(2, device="meta", requires_grad=True)
    value_B = recurrence.call(tables, gamma, lengths)
    value_B.sum().backward()
    assert value_B.shape == (2,)
    assert gamma.grad is not None
    with pytest.raises(RuntimeError):
        recurrence.call(tables, gamma, lengths, check=True)


BAD_GAMMAS = {
    "negative": (-0.1, "gamma must be finite and at least"),
    "nan": (float("nan"), "gamma must be finite"),
    "infinite": (float("inf"), "gamma must be finite"),
    "too small to divide by": (1e-200, "gamma must be finite and at least"),
    "no number": ("0.1", "gamma must be a number or a tensor"),
    "boolean": (False, "gamma must be a number or a tensor"),
    "zero tensor": (torch.tensor(0.0), "gamma must be finite and at least .* or the number 0"),
    "negative item": (torch.tensor([0.1, -0.1]), r"gamma\[1\] must be finite and at least"),
    "integer tensor": (torch.tensor(1), "gamma has dtype torch.int64"),
    "wrong batch": (torch.full((3,), 0.1), r"gamma must have shape \(\) or \(2,\), got \(3,\)"),
    "other device": (torch.tensor(0.1, device="meta"), "gamma is on meta but must be on cpu"),
}
BAD_LENGTHS = {
    "zero": (torch.tensor([[3, 4], [0, 4]]), r"lengths\[1, 0\] must be in \[1, 3\], got 0"),
    "too long": (torch.tensor([[3, 5], [3, 4]]), r"lengths\[0, 1\] must be in \[1, 4\], got 5"),
    "wrong shape": (torch.tensor([3, 4]), r"lengths must have shape \(2, 2\), got \(2,\)"),
    "float": (torch.ones(2, 2), "lengths has dtype torch.float32"),
    "list": ([[3, 4], [3, 4]], "lengths must be an integer tensor, got list"),
    "other device": (torch.ones(2, 2, dtype=torch.int64, device="meta"), "lengths is on meta"),
}
BAD_TABLES = {
    "two dimensions": (torch.rand(3, 4), r"must have shape \(B, N, M\) .*got \(3, 4\)"),
    "no columns": (torch.rand(2, 3, 0), r"N and M at least 1, got \(2, 3, 0\)"),
    "integers": (torch.ones(2, 3, 4, dtype=torch.int64), "has dtype torch.int64; convert it"),
    "half": (torch.ones(2, 3, 4, dtype=torch.float16), "has dtype torch.float16; convert it"),
    "list": ([[[1.0]]], "must be a tensor, got list"),
    "nan": (torch.full((2, 3, 4), torch.nan), "must be finite"),
    "infinite": (torch.full((2, 3, 4), -torch.inf), "must be finite"),
}


@pytest.mark.parametrize("case", BAD_GAMMAS)
def test_bad_gamma(recurrence: Recurrence, backend: str, case: str) -> None:
    gamma, message = BAD_GAMMAS[case]
    with pytest.raises(ValueError, match=message):
        recurrence.call(recurrence.tables((2, 3, 4)), gamma, backend=backend)


@pytest.mark.parametrize("case", BAD_LENGTHS)
def test_bad_lengths(recurrence: Recurrence, backend: str, case: str) -> None:
    lengths, message = BAD_LENGTHS[case]
    with pytest.raises(ValueError, match=message):
        recurrence.call(recurrence.tables((2, 3, 4)), SOFT, lengths, backend=backend)


@pytest.mark.parametrize("case", BAD_TABLES)
def test_bad_tables(recurrence: Recurrence, backend: str, case: str) -> None:
    table, message = BAD_TABLES[case]
    with pytest.raises(ValueError, match=f"{recurrence.first_table}.*{message}"):
        recurrence.call([table] * recurrence.num_tables, SOFT, backend=backend)


def test_bad_backend(recurrence: Recurrence) -> None:
    with pytest.raises(ValueError, match=r"backend must be one of .*reference.*torch.*, got 'cuda'"):
        recurrence.call(recurrence.tables((2, 3, 4)), SOFT, backend="cuda")
