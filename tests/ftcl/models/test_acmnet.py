"""ACM-Net against plain loops in float64.

Shapes: B videos, T snippets, D feature channels, E embedding width, C1 classes with the background.
"""

import numpy as np
import pytest
import torch

from ftcl.models import ACMNet, DropoutMasks, draw_dropout_masks

NUM_VIDEOS, NUM_SNIPPETS, NUM_FEATURES, WIDTH, NUM_CLASSES = 2, 11, 5, 6, 3
DIVISORS = (4, 3, 20)  # the last is above T, so that branch averages a single snippet


@pytest.fixture
def network() -> ACMNet:
    network = ACMNet(NUM_FEATURES, NUM_CLASSES, width=WIDTH, topk_divisors=DIVISORS, fsd_width=4)
    network.initialise(torch.Generator().manual_seed(0))
    return network.double()


def random_input(seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(NUM_VIDEOS, NUM_SNIPPETS, NUM_FEATURES, dtype=torch.float64, generator=generator)


def random_masks() -> DropoutMasks:
    masks = draw_dropout_masks(
        (NUM_VIDEOS, NUM_SNIPPETS, NUM_FEATURES),
        WIDTH,
        dropout=0.4,
        generator=torch.Generator().manual_seed(2),
        embedding_dropout=True,
        attention_dropout=True,
    )
    return DropoutMasks(*(None if mask is None else mask.double() for mask in masks))


def softmax(values: np.ndarray) -> np.ndarray:
    powers = np.exp(values - values.max())
    return powers / powers.sum()


def run_in_loops(network: ACMNet, x_BTD: np.ndarray, masks: DropoutMasks | None) -> dict[str, np.ndarray]:
    """The network's outputs, one number at a time."""
    w = {name: value.detach().numpy() for name, value in network.state_dict().items()}
    ones = {
        "snippet_B1T": np.ones((NUM_VIDEOS, 1, NUM_SNIPPETS)),
        "embedding_BET": np.ones((NUM_VIDEOS, WIDTH, NUM_SNIPPETS)),
        "input_BDT": np.ones((NUM_VIDEOS, NUM_FEATURES, NUM_SNIPPETS)),
        "attention_BET": np.ones((NUM_VIDEOS, WIDTH, NUM_SNIPPETS)),
    }
    m = ones if masks is None else {name: mask.numpy() for name, mask in masks._asdict().items()}
    found: dict[str, list] = {}
    for b in range(NUM_VIDEOS):
        x = x_BTD[b] * m["input_BDT"][b].T
        embedding = np.zeros((NUM_SNIPPETS, WIDTH))
        attention = np.zeros((NUM_SNIPPETS, 3))
        cas = np.zeros((NUM_SNIPPETS, NUM_CLASSES + 1))
        for t in range(NUM_SNIPPETS):
            for e in range(WIDTH):
                total = w["feature_embedding.0.bias"][e]
                for k in range(3):
                    if 0 <= t + k - 1 < NUM_SNIPPETS:
                        total += w["feature_embedding.0.weight"][e, :, k] @ x[t + k - 1]
                embedding[t, e] = max(total, 0.0)
            attended = embedding[t] * m["attention_BET"][b, :, t]
            attention[t] = softmax(w["att_branch.weight"][:, :, 0] @ attended + w["att_branch.bias"])
            classified = embedding[t] * m["snippet_B1T"][b, 0, t] * m["embedding_BET"][b, :, t]
            cas[t] = w["snippet_cls.weight"] @ classified + w["snippet_cls.bias"]
        row = {"embedding_BTE": embedding, "attention_BTK": attention, "cas_BTC1": cas}
        for k, (branch, divisor) in enumerate(
            zip(("instance", "context", "background"), DIVISORS, strict=True)
        ):
            count = max(NUM_SNIPPETS // divisor, 1)
            branch_cas = np.stack([cas[t] * attention[t, k] for t in range(NUM_SNIPPETS)])
            video = [np.mean(sorted(column, reverse=True)[:count]) for column in branch_cas.T]
            row[f"{branch}_scores_BC1"] = softmax(np.array(video))
            chosen = sorted(range(NUM_SNIPPETS), key=lambda t: -attention[t, k])[:count]
            row[f"{branch}_feature_BE"] = np.mean([embedding[t] for t in chosen], axis=0)
            if branch == "instance":
                row["instance_cas_BTC1"] = np.stack([softmax(values) for values in branch_cas])
        for name, value in row.items():
            found.setdefault(name, []).append(value)
    return {name: np.stack(values) for name, values in found.items()}


@pytest.mark.parametrize("with_masks", [False, True])
def test_outputs_equal_plain_loops(network: ACMNet, with_masks: bool) -> None:
    x_BTD, masks = random_input(), random_masks() if with_masks else None
    output = network(x_BTD, masks)
    expected = run_in_loops(network, x_BTD.numpy(), masks)
    for name, value in expected.items():
        np.testing.assert_allclose(getattr(output, name).detach(), value, atol=1e-12, err_msg=name)


def test_every_gradient_equals_finite_differences(network: ACMNet) -> None:
    names = [name for name, _ in network.named_parameters() if not name.startswith("feature_trans")]
    values = tuple(network.get_parameter(name).detach().requires_grad_() for name in names)
    masks = random_masks()

    def outputs(x_BTD: torch.Tensor, *weights: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(
            torch.func.functional_call(network, dict(zip(names, weights, strict=True)), (x_BTD, masks))
        )

    assert torch.autograd.gradcheck(outputs, (random_input().requires_grad_(), *values))


def test_the_parameters_are_those_of_the_published_checkpoints(network: ACMNet) -> None:
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == {
        "feature_embedding.0.weight": (WIDTH, NUM_FEATURES, 3),
        "feature_embedding.0.bias": (WIDTH,),
        "att_branch.weight": (3, WIDTH, 1),
        "att_branch.bias": (3,),
        "snippet_cls.weight": (NUM_CLASSES + 1, WIDTH),
        "snippet_cls.bias": (NUM_CLASSES + 1,),
        "feature_trans.weight": (4, WIDTH),
        "feature_trans.bias": (4,),
    }


def test_initial_values_depend_on_the_generator_alone() -> None:
    def draw(fsd_width: int | None) -> dict[str, torch.Tensor]:
        torch.rand(7)  # moves the global generator
        network = ACMNet(NUM_FEATURES, NUM_CLASSES, width=WIDTH, topk_divisors=DIVISORS, fsd_width=fsd_width)
        network.initialise(torch.Generator().manual_seed(5))
        return network.state_dict()

    first, second = draw(None), draw(4)
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
    bound = 1 / np.sqrt(3 * NUM_FEATURES)
    assert first["feature_embedding.0.weight"].abs().max() <= bound
    assert first["feature_embedding.0.weight"].abs().max() > 0.8 * bound


def test_dropout_masks_keep_the_expectation_and_drop_whole_snippets() -> None:
    masks = draw_dropout_masks(
        (50, 40, NUM_FEATURES), WIDTH, dropout=0.7, generator=torch.Generator().manual_seed(0)
    )
    assert masks.input_BDT is None
    assert masks.attention_BET is None
    assert masks.snippet_B1T.shape == (50, 1, 40)
    for mask in (masks.snippet_B1T, masks.embedding_BET):
        assert mask.unique().tolist() == [0.0, pytest.approx(1 / 0.3, rel=1e-6)]
        assert mask.mean().item() == pytest.approx(1.0, abs=0.15)
