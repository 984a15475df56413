import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ftcl.dp import available_backends, fsd, lcs, smooth_dtw, soft_dtw

BACKENDS = [name for name in available_backends("cpu") if name != "reference"]
CALLS: dict[str, Callable[..., Tensor]] = {
    "soft_dtw": lambda x, **options: soft_dtw(x, 0.1, **options),
    "smooth_dtw": lambda x, **options: smooth_dtw(x, 0.1, **options),
    "fsd": lambda x, **options: fsd(x, x, 0.1, **options),
    "lcs": lambda x, **options: lcs(x, 0.5, **options),
    "lcs, smooth": lambda x, **options: lcs(x, 0.5, gamma=0.1, **options),
}


def test_torch_and_the_reference_are_always_there() -> None:
    for device in ("cpu", "meta"):
        assert available_backends(device)[-2:] == ("torch", "reference")


def test_the_default_is_the_first_one(monkeypatch: pytest.MonkeyPatch) -> None:
    file = {"native": "native", "torch": "torch_backend"}[available_backends("cpu")[0]]
    module = importlib.import_module(f"ftcl.dp.backends.{file}")
    called = []
    solve = module.solve
    monkeypatch.setattr(module, "solve", lambda *arguments: called.append(1) or solve(*arguments))
    soft_dtw(torch.rand(1, 2, 2), 0.1)
    assert called


def test_a_backend_that_cannot_be_used_says_why() -> None:
    with pytest.raises(ValueError, match="backend 'triton' cannot be used: "):
        soft_dtw(torch.rand(1, 2, 2), 0.1, backend="triton")


def kept_bytes(call: Callable[..., Tensor], x: Tensor, **options: object) -> int:
    """Bytes that autograd keeps for the backward pass, the inputs apart."""
    kept: dict[int, int] = {}

    def pack(saved: Tensor) -> Tensor:
        storage = saved.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return saved

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda saved: saved):
        value_B = call(x, **options)
    kept.pop(x.untyped_storage().data_ptr(), None)
    assert value_B.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_what_is_kept_for_the_backward_pass(name: str, backend: str) -> None:
    x = torch.rand(2, 40, 50, requires_grad=True)
    cells = x.numel()
    kept = kept_bytes(CALLS[name], x, backend=backend)
    assert kept == (8 if name == "fsd" else 4) * cells
    assert kept_bytes(CALLS[name], x, backend=backend, recompute=True) == 0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CALLS)
def test_recomputing_gives_the_same_gradients(name: str, backend: str) -> None:
    x = torch.rand(2, 6, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    gradients = [
        torch.autograd.grad(CALLS[name](x, backend=backend, recompute=recompute).square().sum(), x)
        for recompute in (False, True)
    ]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_kept_graph_gives_its_gradients_again(backend: str) -> None:
    x = torch.rand(2, 6, 5, requires_grad=True)
    value_B = fsd(x, x, 0.1, backend=backend)
    first, second, last = (
        torch.autograd.grad(value_B, x, torch.tensor([2.0, -1.0]), retain_graph=keep)[0]
        for keep in (True, True, False)
    )
    torch.testing.assert_close(second, first, rtol=0, atol=0)
    torch.testing.assert_close(last, first, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("recompute", [False, True])
def test_a_batch_of_incoming_gradients(backend: str, recompute: bool) -> None:
    x = torch.rand(2, 6, 5, requires_grad=True)
    value_B = soft_dtw(x, 0.1, backend=backend, recompute=recompute)
    (jacobian,) = torch.autograd.grad(value_B, x, torch.eye(2), is_grads_batched=True)
    (gradient,) = torch.autograd.grad(soft_dtw(x, 0.1, backend=backend).sum(), x)
    torch.testing.assert_close(jacobian[range(2), range(2)], gradient)
    assert jacobian[0, 1].count_nonzero() == 0
