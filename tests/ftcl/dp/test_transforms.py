"""Recurrences inside torch.func and torch.compile give what they give outside."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacrev, jvp, vmap

from ftcl.dp import available_backends, dtw, fsd, lcs, smooth_dtw, soft_dtw

FAST_BACKENDS = [name for name in available_backends("cpu") if name != "reference"]
SAMPLES, SHAPE = 4, (3, 5, 4)
LENGTHS = torch.tensor([[5, 4], [2, 3], [1, 4]])
Call = Callable[[Tensor, Tensor], Tensor]


def calls(backend: str) -> dict[str, Call]:
    return {
        "soft_dtw": lambda x, gamma: soft_dtw(x, gamma, backend=backend),
        "soft_dtw recomputed": lambda x, gamma: soft_dtw(x, gamma, recompute=True, backend=backend),
        "smooth_dtw": lambda x, gamma: smooth_dtw(x, gamma, LENGTHS, backend=backend),
        "fsd": lambda x, gamma: fsd(x, 2 * x, gamma, LENGTHS, backend=backend),
        "lcs": lambda x, gamma: lcs(x, 0.5, gamma=gamma, backend=backend),
        "dtw": lambda x, gamma: gamma.sum() + dtw(x, LENGTHS, backend=backend),
    }


@pytest.fixture(params=[(name, backend) for backend in FAST_BACKENDS for name in calls(backend)], ids=str)
def call(request: pytest.FixtureRequest) -> Call:
    name, backend = request.param
    return calls(backend)[name]


def samples(gamma_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(SAMPLES, *SHAPE, generator=generator, dtype=torch.float64)
    return x, torch.rand(SAMPLES, *gamma_shape, generator=generator, dtype=torch.float64) + 0.1


def total(call: Call) -> Call:
    return lambda x, gamma: call(x, gamma).sum()


def one_by_one(call: Call, x: Tensor, gamma: Tensor) -> tuple[Tensor, ...]:
    """Values and gradients by plain autograd."""
    results: list[tuple[Tensor, ...]] = []
    for one_x, one_gamma in zip(x, gamma, strict=True):
        inputs = one_x.clone().requires_grad_(), one_gamma.clone().requires_grad_()
        value_B = call(*inputs)
        results.append((value_B.detach(), *torch.autograd.grad(value_B.sum(), inputs)))
    return tuple(torch.stack(parts) for parts in zip(*results, strict=True))


@pytest.mark.parametrize("gamma_shape", [(), (3,)])
def test_vmap_and_grad_in_any_order(call: Call, gamma_shape: tuple[int, ...]) -> None:
    x, gamma = samples(gamma_shape)
    values, *gradients = one_by_one(call, x, gamma)
    torch.testing.assert_close(vmap(call)(x, gamma), values)
    torch.testing.assert_close(vmap(grad(total(call), (0, 1)))(x, gamma), tuple(gradients))
    outside = grad(lambda x, gamma: vmap(call)(x, gamma).sum(), (0, 1))
    torch.testing.assert_close(outside(x, gamma), tuple(gradients))
    tracked = x.clone().requires_grad_()
    (plain,) = torch.autograd.grad(vmap(call)(tracked, gamma).sum(), tracked)
    torch.testing.assert_close(plain, gradients[0])


def test_vmap_over_one_argument_or_another_dimension(call: Call) -> None:
    x, gamma = samples((3,))
    expected = torch.stack([call(one, gamma[0]) for one in x])
    torch.testing.assert_close(vmap(call, (0, None))(x, gamma[0]), expected)
    torch.testing.assert_close(vmap(call, (2, None))(x.movedim(0, 2), gamma[0]), expected)
    expected = torch.stack([call(x[0], one) for one in gamma])
    torch.testing.assert_close(vmap(call, (None, 0))(x[0], gamma), expected)
    nested = vmap(vmap(call))(torch.stack((x, x)), torch.stack((gamma, gamma)))
    torch.testing.assert_close(nested, torch.stack([vmap(call)(x, gamma)] * 2))


@pytest.mark.parametrize("backend", FAST_BACKENDS)
def test_vmap_over_lengths_and_threshold(backend: str) -> None:
    x, threshold = samples(())
    lengths = torch.stack([LENGTHS, LENGTHS.flip(0), LENGTHS.clamp(max=2), LENGTHS.clamp(min=2)])

    def call(x: Tensor, threshold: Tensor, lengths: Tensor) -> Tensor:
        return lcs(x, threshold, lengths, backend=backend)

    expected = torch.stack([call(*one) for one in zip(x, threshold, lengths, strict=True)])
    torch.testing.assert_close(vmap(call)(x, threshold, lengths), expected)


def test_jacrev_has_a_row_for_each_item(call: Call) -> None:
    x, gamma = samples(())
    jacobian = jacrev(call)(x[0], gamma[0])
    assert jacobian.shape == (3, *SHAPE)
    (gradient,) = one_by_one(call, x[:1], gamma[:1])[1]
    torch.testing.assert_close(jacobian.sum(dim=0), gradient)
    assert jacobian[0, 1:].count_nonzero() == 0


def test_forward_mode_raises(call: Call) -> None:
    x, gamma = samples(())
    with pytest.raises(NotImplementedError, match="jvp"):
        jvp(call, (x[0], gamma[0]), (x[0], gamma[0]))


def test_a_second_derivative_raises_also_inside_vmap() -> None:
    x, gamma = samples(())

    def penalty(x: Tensor) -> Tensor:
        return grad(lambda x: soft_dtw(x, gamma[0]).sum())(x).square().sum()

    for function, argument in ((grad(penalty), x[0]), (vmap(grad(penalty)), x)):
        with pytest.raises(RuntimeError, match="no second derivative"):
            function(argument)


def test_errors_are_found_inside_transforms() -> None:
    x, gamma = samples(())
    with pytest.raises(ValueError, match=r"gamma.* must be finite and at least"):
        vmap(soft_dtw)(x, -gamma)
    x[2, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="cost_BNM must be finite"):
        vmap(grad(lambda x: soft_dtw(x, 0.1).sum()))(x)


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    torch.compiler.reset()
    # aot_eager runs all of the compiler but its code generator, which needs a C++ compiler.
    return torch.compile(function, fullgraph=True, backend="aot_eager")


def test_compiled_values_and_gradients(call: Call) -> None:
    x, gamma = samples((3,))
    values, *gradients = one_by_one(call, x, gamma)
    inputs = x[0].clone().requires_grad_(), gamma[0].clone().requires_grad_()
    value_B = compiled(call)(*inputs)
    torch.testing.assert_close(value_B.detach(), values[0])
    torch.testing.assert_close(
        torch.autograd.grad(value_B.sum(), inputs), tuple(gradient[0] for gradient in gradients)
    )
    torch.testing.assert_close(compiled(vmap(call))(x, gamma), values)
    per_sample = vmap(grad(total(call), (0, 1)))
    torch.testing.assert_close(compiled(per_sample)(x, gamma), tuple(gradients))


@pytest.mark.parametrize("backend", FAST_BACKENDS)
def test_compiled_numbers_and_paths(backend: str) -> None:
    x, _ = samples(())

    def call(x: Tensor, gamma: float) -> tuple[Tensor, ...]:
        return soft_dtw(x.float(), gamma, bandwidth=4, backend=backend), *dtw(
            x, return_path=True, backend=backend
        )

    function = compiled(call)
    for gamma in (0.1, 0.2, 0.0):
        torch.testing.assert_close(function(x[0], gamma), call(x[0], gamma))
