"""The fused contrasts beside the composition of the public functions, which defines them.

Shapes: B pairs, T rows of a sequence, L chosen ones, E channels.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

# Triton looks at it when it is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from ftcl.dp.backends import native
from ftcl.dp.backends.problem import Wants
from ftcl.losses import (
    fsd_contrast,
    fsd_values,
    fused,
    fused_native,
    fused_triton,
    gather_rows,
    lcs_contrast,
    lcs_values,
    pair_contrast,
)

ROOT = Path(__file__).parents[3]
HAS_GPU = torch.cuda.is_available()
needs_native = pytest.mark.skipif(not fused_native.usable(), reason="needs the C library")


KERNELS: dict[str, Any] = {"native": fused_native, "triton": fused_triton}


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "triton"])
def kernel_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "triton":
        pytest.importorskip("triton")
        # As small as they can be, since the interpreter is slow.
        monkeypatch.setattr(fused_triton, "_MAX_TILE", 16)
        monkeypatch.setattr(fused_triton, "_CHANNELS", 16)
        monkeypatch.setattr(fused_triton, "_SPLIT", 32)
    return request.param


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


def on(kernel_name: str) -> dict[str, Any]:
    return {"device": "cuda"} if HAS_GPU and kernel_name == "triton" else {}


@pytest.mark.parametrize("recurrence", ["fsd", "lcs"])
@pytest.mark.parametrize("gamma", [0.0, 0.1])
def test_agrees_with_the_composition(kernel_name: str, recurrence: str, gamma: float) -> None:
    Case(recurrence, gamma=gamma, **on(kernel_name)).assert_agree(kernel_name)


# One row; ranges of unequal length; more rows than a block or a tile, channels than a chunk or a split.
@pytest.mark.parametrize(
    ("recurrence", "steps", "channels"),
    [("fsd", 1, 8), ("fsd", 5, 33), ("lcs", 5, 33), ("lcs", 17, 9), ("fsd", 2, 70)],
)
def test_sizes(kernel_name: str, recurrence: str, steps: int, channels: int) -> None:
    case = Case(recurrence, pairs=2, steps=steps, channels=channels, gamma=0.1, **on(kernel_name))
    case.assert_agree(kernel_name)


@needs_native
@pytest.mark.parametrize("recurrence", ["fsd", "lcs"])
@pytest.mark.parametrize(("steps", "channels"), [(30, 2048), (3, 2200), (40, 600)])
def test_larger_sizes(recurrence: str, steps: int, channels: int) -> None:
    Case(recurrence, pairs=2, steps=steps, channels=channels, gamma=0.1).assert_agree("native")


@needs_native
def test_rows_of_one_channel_are_parallel_or_opposite() -> None:
    case = Case("fsd", channels=1, gamma=0.1)
    value = case.fused(case.rows_2BTE, "native")
    assert value.item() == pytest.approx(case.composed(case.rows_2BTE).item(), abs=1e-5)
    (gradient,) = torch.autograd.grad(value, case.rows_2BTE)
    assert gradient.abs().max() < 1e-5


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("twice", [False, True])
def test_chosen_rows(kernel_name: str, channels_first: bool, twice: bool) -> None:
    case = Case(
        "lcs", steps=9, chosen=4, twice=twice, channels=20, channels_first=channels_first, **on(kernel_name)
    )
    gradient = case.assert_agree(kernel_name)
    assert gradient.stride() == case.rows_2BTE.stride()
    assert case.chosen_2BL is not None
    is_chosen = torch.zeros(gradient.shape[:2], dtype=torch.bool).scatter_(1, case.chosen_2BL.cpu(), True)
    assert not gradient.cpu()[~is_chosen].any()


@needs_native
def test_choosing_all_rows_is_choosing_none() -> None:
    results = []
    for case in (Case("lcs"), Case("lcs", chosen=6)):
        value = case.fused(case.rows_2BTE, "native")
        results.append((value.detach(), *torch.autograd.grad(value, case.rows_2BTE)))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("positive", [True, False])
def test_pairs_of_one_kind(kernel_name: str, positive: bool) -> None:
    case = Case("fsd", pairs=2, steps=2, channels=4, gamma=0.1, **on(kernel_name))
    case.is_positive_B = torch.full_like(case.is_positive_B, positive)
    case.assert_agree(kernel_name)


def test_rows_of_zeros_get_no_gradient(kernel_name: str) -> None:
    case = Case("fsd", pairs=2, steps=3, gamma=0.1, **on(kernel_name))
    case.rows_2BTE.detach()[0, 1] = 0.0
    gradient = case.assert_agree(kernel_name).cpu()
    assert not gradient[0, 1].any()
    assert gradient[1, 1].all()


def test_rows_that_are_nearly_zero_get_no_gradient(kernel_name: str) -> None:
    case = Case("fsd", pairs=2, steps=3, gamma=0.1, **on(kernel_name))
    case.rows_2BTE.detach()[0, 1] *= 1e-20
    results = []
    for value in (case.composed(case.rows_2BTE), case.fused(case.rows_2BTE, kernel_name)):
        results.append((value.detach(), *torch.autograd.grad(value, case.rows_2BTE)))
    assert not results[1][1][0, 1].any()
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def test_rows_without_a_match_get_no_gradient(kernel_name: str) -> None:
    gradient = Case("lcs", **on(kernel_name)).assert_agree(kernel_name).cpu()
    assert not gradient[:, 2::3].any()
    assert gradient[:, 0].all()


def test_only_the_value_where_no_gradient_is_asked_for(kernel_name: str) -> None:
    case = Case("fsd", pairs=2, steps=3, gamma=0.1, **on(kernel_name))
    expected = case.fused(case.rows_2BTE, kernel_name)
    with torch.no_grad():
        actual = case.fused(case.rows_2BTE, kernel_name)
    assert not actual.requires_grad
    assert torch.equal(actual, expected)


@needs_native
def test_a_graph_of_the_gradient_is_that_of_the_composition() -> None:
    case = Case("fsd", gamma=0.1)
    results = []
    for value in (case.composed(case.rows_2BTE), case.fused(case.rows_2BTE, "native")):
        (gradient,) = torch.autograd.grad(value, case.rows_2BTE, create_graph=True)
        results.append(gradient)
        with pytest.raises(RuntimeError, match="no second derivative"):
            gradient.square().sum().backward()
    torch.testing.assert_close(*results)


# What the public functions make of it.


def was_fused(value: Tensor) -> bool:
    return value.grad_fn is not None and "FusedContrast" in value.grad_fn.name()


@needs_native
def test_the_public_functions_are_fused() -> None:
    case = Case("lcs", steps=9, chosen=5)
    assert case.chosen_2BL is not None
    value = lcs_contrast(case.rows_2BTE, case.chosen_2BL, case.is_positive_B, threshold=0.8)
    assert was_fused(value)
    torch.testing.assert_close(value, case.composed(case.rows_2BTE))
    case = Case("fsd", gamma=0.1)
    value = fsd_contrast(case.rows_2BTE, case.is_positive_B, gamma=0.1)
    assert was_fused(value)
    torch.testing.assert_close(value, case.composed(case.rows_2BTE))


def test_what_kernels_do_not_do_is_composed() -> None:
    case = Case("lcs", steps=9, chosen=5)
    rows, chosen, is_positive = case.rows_2BTE, case.chosen_2BL, case.is_positive_B
    assert chosen is not None
    not_fused: list[dict[str, Any]] = [
        {"threshold": torch.full((3,), 0.8)},
        {"threshold": 0.8, "gamma": torch.tensor(0.1)},
        {"threshold": 0.8, "alignment": "mean"},
    ]
    for options in not_fused:
        value = lcs_contrast(rows, chosen, is_positive, **options)
        assert not was_fused(value)
    double = rows.detach().double().requires_grad_()
    value = lcs_contrast(double, chosen, is_positive, threshold=0.8)
    assert not was_fused(value)
    assert value.dtype == torch.float64
    torch.testing.assert_close(value, case.composed(double))


@pytest.mark.parametrize("per_item", [False, True])
def test_gamma_can_be_learned(per_item: bool) -> None:
    case = Case("fsd")
    gamma = torch.full((3,) if per_item else (), 0.1, requires_grad=True)
    value = fsd_contrast(case.rows_2BTE, case.is_positive_B, gamma=gamma)
    value.backward()
    assert gamma.grad is not None and gamma.grad.all()
    assert value.item() == pytest.approx(
        fsd_contrast(case.rows_2BTE, case.is_positive_B, gamma=0.1).item(), abs=1e-6
    )


def test_compiled_code_is_composed() -> None:
    case = Case("fsd", gamma=0.1)

    def contrast(rows: Tensor) -> Tensor:
        return fsd_contrast(rows, case.is_positive_B, gamma=0.1)

    results = []
    for call in (contrast, torch.compile(contrast, backend="eager")):
        value = call(case.rows_2BTE)
        results.append((value.detach(), *torch.autograd.grad(value, case.rows_2BTE)))
    assert not was_fused(value)
    torch.testing.assert_close(*results)


def test_transformations_are_of_the_composition() -> None:
    case = Case("fsd", gamma=0.1)

    def contrast(rows: Tensor) -> Tensor:
        return fsd_contrast(rows, case.is_positive_B, gamma=0.1)

    rows = case.rows_2BTE.detach()
    (expected,) = torch.autograd.grad(contrast(case.rows_2BTE), case.rows_2BTE)
    torch.testing.assert_close(torch.func.grad(contrast)(rows), expected)
    stacked = torch.func.vmap(contrast)(torch.stack((rows, 2.0 * rows)))
    torch.testing.assert_close(stacked, contrast(rows).expand(2))


def test_tracers_and_a_lazy_minus_see_the_composition() -> None:
    case = Case("fsd", gamma=0.1)
    rows = case.rows_2BTE.detach()

    def contrast(rows: Tensor) -> Tensor:
        return fsd_contrast(rows, case.is_positive_B, gamma=0.1)

    other = rows.flip(0)
    torch.testing.assert_close(make_fx(contrast)(rows)(other), contrast(other))
    torch.testing.assert_close(contrast(torch._neg_view(other)), contrast(-other))
    with torch.device("meta"):
        torch.testing.assert_close(contrast(other), contrast(other.clone()))


def test_bad_input() -> None:
    case = Case("lcs", steps=9, chosen=5)
    rows, chosen = case.rows_2BTE, case.chosen_2BL
    assert chosen is not None
    with pytest.raises(ValueError, match="is_positive_B must have an entry for every two of the 6 sequences"):
        lcs_contrast(rows, chosen, torch.ones(2, dtype=torch.bool), threshold=0.8)
    with pytest.raises(ValueError, match="gamma must be"):
        lcs_contrast(rows, chosen, case.is_positive_B, threshold=0.8, gamma=-1.0)
    broken = rows.detach().clone()
    broken[0, int(chosen[0, 0]), 3] = torch.nan
    with pytest.raises(ValueError, match="similarity_BNM must be finite"):
        lcs_contrast(broken, chosen, case.is_positive_B, threshold=0.8)
    with pytest.raises(ValueError, match="gap_BNM must be finite"):
        fsd_contrast(rows.detach().where(torch.arange(24) != 20, torch.inf), case.is_positive_B, gamma=0.1)


BAD_PAIRS = {
    "numbers": (torch.ones(3), "is_positive_B must be a bool tensor, got torch.float32"),
    "list": ([True, False, True], "is_positive_B must be a bool tensor, got list"),
    "column": (torch.ones(3, 1, dtype=torch.bool), r"is_positive_B .* got the shape \(3, 1\)"),
    "other device": (torch.ones(3, dtype=torch.bool, device="meta"), "is_positive_B is on meta"),
}
BAD_CHOSEN = {
    "int32": (torch.zeros(6, 5, dtype=torch.int32), "chosen_2BL must be an int64 tensor, got torch.int32"),
    "list": ([[0]] * 6, "chosen_2BL must be an int64 tensor, got list"),
    "one dimension": (torch.zeros(6, dtype=torch.int64), r"chosen_2BL must have shape \(6, L\).* got \(6,\)"),
    "none": (torch.zeros(6, 0, dtype=torch.int64), r"L at least 1, got \(6, 0\)"),
    "too few": (torch.zeros(5, 2, dtype=torch.int64), r"chosen_2BL must have shape \(6, L\)"),
}


@pytest.mark.parametrize("case", BAD_PAIRS)
def test_bad_pairs(case: str) -> None:
    is_positive, message = BAD_PAIRS[case]
    with pytest.raises(ValueError, match=message):
        fsd_contrast(torch.rand(6, 4, 8), is_positive, gamma=0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("case", BAD_CHOSEN)
def test_bad_choice(case: str) -> None:
    chosen, message = BAD_CHOSEN[case]
    with pytest.raises(ValueError, match=message):
        lcs_contrast(torch.rand(6, 4, 8), chosen, torch.ones(3, dtype=torch.bool), threshold=0.5)  # type: ignore[arg-type]


def test_bad_rows_and_alignment() -> None:
    is_positive = torch.ones(3, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"compared_2BLF must be a tensor of three dimensions, got .*6, 8"):
        fsd_contrast(torch.rand(6, 8), is_positive, gamma=0.1)
    with pytest.raises(ValueError, match="alignment must be one of dp, mean, got 'soft'"):
        fsd_contrast(torch.rand(6, 4, 8), is_positive, gamma=0.1, alignment="soft")  # type: ignore[arg-type]


@pytest.mark.parametrize("index", [-1, 9])
@pytest.mark.parametrize("kernel_name", ["triton"], indirect=True)
def test_a_row_that_is_not_there_is_nan_on_a_gpu(kernel_name: str, index: int) -> None:
    case = Case("lcs", steps=9, chosen=5, **on(kernel_name))
    assert case.chosen_2BL is not None
    case.chosen_2BL[1, 2] = index
    value = case.fused(case.rows_2BTE, kernel_name)
    assert value.isnan()
    (gradient,) = torch.autograd.grad(value, case.rows_2BTE)  # which writes nothing outside
    assert gradient[2].isfinite().all()


@needs_native
@pytest.mark.parametrize("index", [-1, 9])
def test_chosen_rows_must_exist(index: int) -> None:
    case = Case("lcs", steps=9, chosen=5)
    assert case.chosen_2BL is not None
    case.chosen_2BL[1, 2] = index
    with pytest.raises(ValueError, match=r"chosen_2BL must be in \[0, 8\]"):
        lcs_contrast(case.rows_2BTE, case.chosen_2BL, case.is_positive_B, threshold=0.8)


@needs_native
@pytest.mark.parametrize("recurrence", ["fsd", "lcs"])
def test_every_instruction_set_agrees(recurrence: str) -> None:
    case = Case(recurrence, steps=8, channels=150, gamma=0.1, chosen=7, channels_first=True)
    arguments = (case.comparison, case.rows_2BTE.detach(), case.chosen_2BL)
    grad = torch.tensor(2.0)
    results = []
    for level in range(native.best_level() + 1):
        value, kept = fused_native.forward(*arguments, case.is_positive_B, Wants.TABLE_GRADIENTS, level)
        results.append((value, fused_native.backward(*arguments, kept, grad, level)))
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="level must be at most"):
        fused_native.forward(*arguments, case.is_positive_B, Wants.VALUE, native.best_level() + 1)


@needs_native
def test_threads_change_nothing() -> None:
    case = Case("lcs", pairs=6, steps=30, channels=2048)
    num_threads = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            value = case.fused(case.rows_2BTE, "native")
            results.append((value.detach(), *torch.autograd.grad(value, case.rows_2BTE)))
    finally:
        torch.set_num_threads(num_threads)
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_triton_kernels_compile_for_a_gpu() -> None:
    pytest.importorskip("triton")
    script = Path(__file__).with_name("fused_for_hopper.py")
    environment = {**os.environ, "TRITON_INTERPRET": "0", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(script)]
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    findings = json.loads(output)
    assert len(findings) == 6
    for name, found in findings.items():
        # Tensor cores would round the products to ten bits of mantissa.
        assert found["matrix_instructions"] == 0, name
        assert found["spilled_bytes"] == 0, name


@pytest.mark.gpu
def test_no_synchronisation_and_cuda_graphs() -> None:
    case = Case("lcs", pairs=16, steps=100, chosen=30, channels=2048, device="cuda")
    assert case.chosen_2BL is not None
    arguments = (case.comparison, case.rows_2BTE.detach(), case.chosen_2BL)
    grad = torch.ones((), device="cuda")

    def step() -> tuple[Tensor, Tensor]:
        value, kept = fused_triton.forward(*arguments, case.is_positive_B, Wants.TABLE_GRADIENTS)
        return value, fused_triton.backward(*arguments, kept, grad)

    expected = step()  # compiles
    graph = torch.cuda.CUDAGraph()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.cuda.graph(graph):
            captured = step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph.replay()
    torch.testing.assert_close(captured, expected)
    case.assert_agree("triton")
