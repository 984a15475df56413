"""The fused contrasts beside the composition of the public functions, which defines them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ftcl.dp.backends import native
from ftcl.dp.backends.problem import Wants
from ftcl.losses import fused_native, fused_triton
from tests.ftcl.losses.fused_case import Case, needs_native

ROOT = Path(__file__).parents[3]
HAS_GPU = torch.cuda.is_available()


@pytest.fixture(params=[pytest.param("native", marks=needs_native), "triton"])
def kernel_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "triton":
        pytest.importorskip("triton")
        # As small as they can be, since the interpreter is slow.
        monkeypatch.setattr(fused_triton, "_MAX_TILE", 16)
        monkeypatch.setattr(fused_triton, "_CHANNELS", 16)
        monkeypatch.setattr(fused_triton, "_SPLIT", 32)
    return request.param


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
