"""What `fsd_contrast` and `lcs_contrast` fuse, what they compose, and what they refuse."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from ftcl.losses import fsd_contrast, lcs_contrast
from tests.ftcl.losses.fused_case import Case, needs_native


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


@needs_native
@pytest.mark.parametrize("index", [-1, 9])
def test_chosen_rows_must_exist(index: int) -> None:
    case = Case("lcs", steps=9, chosen=5)
    assert case.chosen_2BL is not None
    case.chosen_2BL[1, 2] = index
    with pytest.raises(ValueError, match=r"chosen_2BL must be in \[0, 8\]"):
        lcs_contrast(case.rows_2BTE, case.chosen_2BL, case.is_positive_B, threshold=0.8)
