"""Seeded generators, loss means and the identity of a run."""

import pytest
import torch
from torch import nn

from ftcl.training.seeding import seeded_generator
from ftcl.training.stage import NonFiniteLoss
from ftcl.training.state import LossMeter, load_weights, require_same_identity, run_identity


def test_generators_differ_by_seed_and_by_purpose() -> None:
    def draw(seed: int, purpose: str) -> float:
        return torch.rand((), generator=seeded_generator(seed, purpose)).item()

    drawn = [draw(0, "order"), draw(1, "order"), draw(0, "dropout")]
    assert len(set(drawn)) == 3
    assert draw(0, "order") == drawn[0]


def test_means_are_taken_over_the_steps() -> None:
    meter = LossMeter(("guide", "total"))
    meter.add((torch.tensor(1.0), torch.tensor(4.0)))
    meter.add((torch.tensor(3.0), torch.tensor(8.0)))
    assert meter.means(epoch=1) == {"guide": 2.0, "total": 6.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_first_term_that_is_not_finite_is_named(value: float) -> None:
    meter = LossMeter(("guide", "sparse", "total"))
    meter.add((torch.tensor(1.0), torch.tensor(1.0), torch.tensor(1.0)))
    meter.add((torch.tensor(1.0), torch.tensor(value), torch.tensor(value)))
    with pytest.raises(NonFiniteLoss) as caught:
        meter.means(epoch=4)
    assert (caught.value.epoch, caught.value.term) == (4, "sparse")


def test_identity_knows_the_initial_weights_but_not_the_wanted_epochs() -> None:
    def identity(epochs: int, weight: float) -> dict[str, object]:
        flat = {"finetune.epochs": epochs, "finetune.batch_size": 16}
        return run_identity("finetune", flat, "f1", 0, {"w": torch.full((2,), weight)})

    require_same_identity(identity(3, 1.0), identity(5, 1.0))
    with pytest.raises(ValueError, match="initial weights was"):
        require_same_identity(identity(3, 1.0), identity(3, 2.0))
    with pytest.raises(ValueError, match=r"finetune\.batch_size was 16 and is now 8"):
        require_same_identity(identity(3, 1.0), {**identity(3, 1.0), "finetune.batch_size": 8})


def test_weights_that_do_not_fit_are_named() -> None:
    network = nn.Linear(2, 3)
    weights = dict(network.state_dict())
    with pytest.raises(ValueError, match=r"the file lacks the weight 'bias'"):
        load_weights(network, {"weight": weights["weight"]}, "the file")
    with pytest.raises(ValueError, match=r"'bias' of shape \(4,\), the network expects \(3,\)"):
        load_weights(network, {**weights, "bias": torch.zeros(4)}, "the file")
    with pytest.raises(ValueError, match="'scale', which the network does not have"):
        load_weights(network, {**weights, "scale": torch.zeros(1)}, "the file")
