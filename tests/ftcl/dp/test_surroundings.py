"""Settings, modes, threads and processes around a call change nothing about its result."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from ftcl.dp import available_backends, dtw, fsd, smooth_dtw, soft_dtw

FAST_BACKENDS = [name for name in available_backends("cpu") if name != "reference"]


@pytest.fixture(params=FAST_BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def table(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(3, 9, 7, generator=generator, dtype=torch.float64).requires_grad_()


def gradient(x: Tensor, backend: str) -> Tensor:
    return torch.autograd.grad(soft_dtw(x, 0.1, backend=backend).sum(), x)[0]


def test_a_default_device_is_for_new_tensors_only(backend: str) -> None:
    x = table()
    expected = gradient(x, backend)
    with torch.device("meta"):
        found = gradient(x, backend)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_fake_tensors_are_never_read(backend: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = mode.from_tensor(table().detach())
        for x, y in ((fake, fake), (table().detach(), fake), (fake, table().detach())):
            value_B = fsd(x, y, 0.1, backend=backend)
            assert isinstance(value_B, FakeTensor)
            assert value_B.shape == (3,)
        assert isinstance(soft_dtw(table().detach(), 0.1, backend=backend), FakeTensor)


def test_a_traced_call_computes_when_it_is_run(backend: str) -> None:
    x, other = table().detach(), table(1).detach()
    traced = make_fx(lambda x: soft_dtw(x, 0.1, backend=backend))(x)
    expected = soft_dtw(other, 0.1, backend=backend)
    torch.testing.assert_close(traced(other), expected, rtol=0, atol=0)


def test_a_lazy_minus_is_seen(backend: str) -> None:
    negated = torch._neg_view(table().detach())
    torch.testing.assert_close(
        soft_dtw(negated, 0.1, backend=backend), soft_dtw(negated.clone(), 0.1, backend=backend)
    )


def test_autocast_and_inference_mode(backend: str) -> None:
    x = table().detach()
    expected = soft_dtw(x, 0.1, backend=backend)
    with torch.autocast("cpu"):
        torch.testing.assert_close(soft_dtw(x, 0.1, backend=backend), expected, rtol=0, atol=0)
    with torch.inference_mode():
        torch.testing.assert_close(soft_dtw(x, 0.1, backend=backend), expected, rtol=0, atol=0)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing(backend: str, use_reentrant: bool) -> None:
    x = table()
    value_B = checkpoint(lambda x: smooth_dtw(x, 0.1, backend=backend), x, use_reentrant=use_reentrant)
    value_B.sum().backward()  # reentrant checkpoints refuse torch.autograd.grad
    (expected,) = torch.autograd.grad(smooth_dtw(x, 0.1, backend=backend).sum(), x)
    torch.testing.assert_close(x.grad, expected, rtol=0, atol=0)


def test_a_gradient_to_the_gap_alone(backend: str) -> None:
    match, gap = table().detach(), table(1)
    (found,) = torch.autograd.grad(fsd(match, gap, 0.1, backend=backend).sum(), gap)
    (expected,) = torch.autograd.grad(fsd(match, gap, 0.1, backend="reference").sum(), gap)
    torch.testing.assert_close(found, expected)


def test_threads(backend: str) -> None:
    expected = [gradient(table(seed), backend) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda seed: gradient(table(seed % 8), backend), range(64)))
    for index, one in enumerate(found):
        torch.testing.assert_close(one, expected[index % 8], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_forked_process(backend: str) -> None:
    x = torch.rand(64, 40, 40, generator=torch.Generator().manual_seed(0))  # enough for more than one thread
    expected = dtw(x, backend=backend)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        found = pool.apply_async(_dtw_as_list, (x.tolist(), backend)).get(timeout=60)
    assert found == expected.tolist()


def _dtw_as_list(cost: list[list[list[float]]], backend: str) -> list[float]:
    return dtw(torch.tensor(cost), backend=backend).tolist()


@pytest.mark.parametrize("bandwidth", [2**62, 10**30])
def test_a_band_wider_than_the_table_is_none(backend: str, bandwidth: int) -> None:
    x = table().detach()
    banded = soft_dtw(x, 0.1, bandwidth=bandwidth, backend=backend)
    torch.testing.assert_close(banded, soft_dtw(x, 0.1, backend=backend))


def test_a_band_has_a_path() -> None:
    cost = torch.ones(1, 4, 4)
    cost[0, range(4), range(4)] = 2.0
    cost[0, :, 0] = cost[0, 3] = 0.0
    _, wide = dtw(cost, return_path=True)
    value, narrow = dtw(cost, bandwidth=0, return_path=True)
    assert [2, 0] in wide[0].tolist()
    assert narrow[0, :4].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert value.tolist() == [4.0]


def test_a_sparse_table_is_refused() -> None:
    with pytest.raises(ValueError, match=r"cost_BNM has the layout torch.sparse_coo; make it dense"):
        soft_dtw(torch.eye(3)[None].to_sparse(), 0.1)


def test_a_bad_gamma_is_named_with_its_place() -> None:
    with pytest.raises(ValueError, match=r"gamma\[2\] must be finite and at least .*, got -0.5"):
        soft_dtw(torch.zeros(3, 2, 2), torch.tensor([0.1, 0.2, -0.5]))
