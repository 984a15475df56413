"""The choice of a device, and what it switches."""

from collections.abc import Iterator

import pytest
import torch

from ftcl.training.device import choose_device


@pytest.fixture
def loose_switches() -> Iterator[None]:
    """The switches of the process as far from repeatable as they go, afterwards as they were."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = False, True, True, True
    yield
    cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


@pytest.mark.usefixtures("loose_switches")
def test_cuda_repeats_and_keeps_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == "cuda"
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32


@pytest.mark.situation(
    "environment",
    "a GPU is asked for where there is none",
    "nothing starts; the message offers --device auto",
)
def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no cuda device here"):
        choose_device("cuda")
    assert choose_device("cpu").type == "cpu"
