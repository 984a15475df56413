import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ftcl.dp import cosine_similarity


def random_rows(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()


@pytest.mark.parametrize("sizes", [(5, 3), (3, 5), (1, 4), (4, 1)])
def test_agrees_with_the_cosine_of_torch(sizes: tuple[int, int]) -> None:
    x, y = random_rows(2, sizes[0], 7), random_rows(2, sizes[1], 7, seed=1)
    torch.testing.assert_close(
        cosine_similarity(x, y), F.cosine_similarity(x[:, :, None], y[:, None], dim=-1, eps=0.0)
    )


def test_first_and_second_derivatives() -> None:
    inputs = (random_rows(2, 3, 4), random_rows(2, 2, 4, seed=1))
    assert torch.autograd.gradcheck(cosine_similarity, inputs)
    assert torch.autograd.gradgradcheck(cosine_similarity, inputs)


def test_zero_rows_are_similar_to_nothing_and_get_no_gradient() -> None:
    x, y = random_rows(1, 3, 4).detach(), random_rows(1, 2, 4, seed=1).detach()
    x[0, 1] = 0.0
    y[0, 0] = 0.0
    x.requires_grad_()
    y.requires_grad_()
    similarity = cosine_similarity(x, y)
    zero = torch.tensor([[[True, False], [True, True], [True, False]]])
    assert torch.equal(similarity == 0.0, zero)
    x_gradient, y_gradient = torch.autograd.grad(similarity.sum(), (x, y), create_graph=True)
    assert torch.isfinite(x_gradient).all()
    assert torch.isfinite(y_gradient).all()
    assert not x_gradient[0, 1].any()
    assert not y_gradient[0, 0].any()
    second = torch.autograd.grad(x_gradient.sum() + y_gradient.sum(), (x, y))
    assert all(torch.isfinite(z).all() for z in second)


def test_length_of_the_rows_does_not_matter() -> None:
    x, y = random_rows(2, 3, 8, dtype=torch.float32), random_rows(2, 4, 8, seed=1, dtype=torch.float32)
    torch.testing.assert_close(cosine_similarity(x * 1e6, y * 1e-6), cosine_similarity(x, y))
    torch.testing.assert_close(cosine_similarity(x, x * 3.0).diagonal(dim1=1, dim2=2), torch.ones(2, 3))


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_is_computed_in_float32(autocast: bool) -> None:
    x, y = random_rows(2, 3, 8, dtype=torch.bfloat16), random_rows(2, 4, 8, seed=1, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        similarity = cosine_similarity(x, y)
    torch.testing.assert_close(similarity, cosine_similarity(x.float(), y.float()), rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(similarity.sum(), x)
    assert gradient.dtype == torch.bfloat16


def test_empty_batch() -> None:
    x, y = random_rows(0, 3, 4), random_rows(0, 2, 4)
    similarity = cosine_similarity(x, y)
    assert similarity.shape == (0, 3, 2)
    assert torch.autograd.grad(similarity.sum(), x)[0].shape == (0, 3, 4)


X = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3, 4), X, r"x_BND must have shape \(B, N, D\), got \(3, 4\)"),
        (X, torch.zeros(3, 4), r"y_BMD must have shape \(2, M, 4\)"),
        (X, torch.zeros(1, 3, 4), r"y_BMD must have shape \(2, M, 4\)"),
        (X, torch.zeros(2, 3, 5), r"y_BMD must have shape \(2, M, 4\)"),
        (X.int(), X, "x_BND has dtype torch.int32"),
        (X, X.double(), "y_BMD has dtype torch.float64 but x_BND has torch.float32"),
        (X, X.to("meta"), "y_BMD is on meta"),
        (X, None, "y_BMD must be a tensor, got NoneType"),
    ],
)
def test_bad_input(x: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cosine_similarity(x, y)


def test_a_tiny_row_counts_as_zero() -> None:
    x = torch.randn(1, 3, 8, generator=torch.Generator().manual_seed(0))
    x[0, 1] = 1e-20
    x.requires_grad_()
    similarity = cosine_similarity(x, x)
    assert similarity[0, 1].tolist() == [0.0, 0.0, 0.0]
    similarity.sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad[0, 1].count_nonzero() == 0


def test_inside_torch_func() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, 2, n, 5, generator=generator, dtype=torch.float64) for n in (3, 6))
    expected = torch.stack([cosine_similarity(*pair) for pair in zip(x, y, strict=True)])
    torch.testing.assert_close(torch.func.vmap(cosine_similarity)(x, y), expected)
    one_side = torch.func.vmap(cosine_similarity, (None, 0))(x[0], y)
    torch.testing.assert_close(one_side, torch.stack([cosine_similarity(x[0], other) for other in y]))

    def total(x: Tensor, y: Tensor) -> Tensor:
        return cosine_similarity(x, y).square().sum()

    gradients = torch.func.vmap(torch.func.grad(total, (0, 1)))(x, y)
    tracked = x.clone().requires_grad_(), y.clone().requires_grad_()
    sums = torch.stack([total(*pair) for pair in zip(*tracked, strict=True)]).sum()
    torch.testing.assert_close(gradients, torch.autograd.grad(sums, tracked))
    with pytest.raises(NotImplementedError, match="jvp"):
        torch.func.jvp(cosine_similarity, (x[0], y[0]), (x[0], y[0]))
