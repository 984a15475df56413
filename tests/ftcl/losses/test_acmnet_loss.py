"""ACM-Net's loss terms against plain loops in float64.

Shapes: B videos, T snippets, E embedding width, C action classes, C1 = C + 1, K = 3 branches.
"""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from ftcl.losses import acmnet_loss, branch_targets, cross_entropy
from ftcl.models import ACMNetOutput

LABELS = [[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 1]]
OPTIONS = {
    "log_eps": 1e-10,
    "instance_weight": 5.0,
    "margin": 2.5,
    "lambda_guide": 0.3,
    "lambda_feature": 0.2,
    "lambda_sparse": 0.1,
    "sparse_reduction": "sum",
}


def random_output(seed: int) -> ACMNetOutput:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    num_videos, num_snippets, width, num_classes = 4, 7, 5, 3
    return ACMNetOutput(
        embedding_BTE=normal(num_videos, num_snippets, width),
        attention_BTK=normal(num_videos, num_snippets, 3).softmax(2),
        cas_BTC1=normal(num_videos, num_snippets, num_classes + 1),
        instance_cas_BTC1=normal(num_videos, num_snippets, num_classes + 1).softmax(2),
        instance_scores_BC1=normal(num_videos, num_classes + 1).softmax(1),
        context_scores_BC1=normal(num_videos, num_classes + 1).softmax(1),
        background_scores_BC1=normal(num_videos, num_classes + 1).softmax(1),
        instance_feature_BE=normal(num_videos, width),
        context_feature_BE=normal(num_videos, width),
        background_feature_BE=normal(num_videos, width),
    )


def loss_in_loops(output: ACMNetOutput, labels: list[list[int]]) -> dict[str, float]:
    """Every term, one number at a time."""
    num_videos, num_snippets, _ = output.attention_BTK.shape
    terms = dict.fromkeys(("instance", "context", "background", "guide", "feature", "sparse"), 0.0)
    for b, y in enumerate(labels):
        for branch, target in (
            ("instance", [*y, 0]),
            ("context", [*y, 1]),
            ("background", [*[0 for _ in y], 1]),
        ):
            scores = getattr(output, f"{branch}_scores_BC1")[b].tolist()
            for c, wanted in enumerate(target):
                terms[branch] -= wanted / sum(target) * math.log(scores[c] + OPTIONS["log_eps"])
        for t in range(num_snippets):
            instance, context, _ = output.attention_BTK[b, t].tolist()
            terms["guide"] += abs(1 - output.instance_cas_BTC1[b, t, -1].item() - instance)
            terms["sparse"] += instance + context
        i, c, g = (
            math.sqrt(sum(v * v for v in getattr(output, f"{branch}_feature_BE")[b].tolist()))
            for branch in ("instance", "context", "background")
        )
        margin = OPTIONS["margin"]
        terms["feature"] += (max(margin - i + c, 0) + max(margin - c + g, 0) + g) ** 2
    terms = {name: value / num_videos for name, value in terms.items()}
    terms["total"] = (
        OPTIONS["instance_weight"] * terms["instance"]
        + terms["context"]
        + terms["background"]
        + OPTIONS["lambda_guide"] * terms["guide"]
        + OPTIONS["lambda_feature"] * terms["feature"]
        + OPTIONS["lambda_sparse"] * terms["sparse"]
    )
    return terms


@pytest.mark.parametrize("seed", range(3))
def test_every_term_equals_plain_loops(seed: int) -> None:
    output = random_output(seed)
    found = acmnet_loss(output, torch.tensor(LABELS, dtype=torch.float64), **OPTIONS)
    for name, value in loss_in_loops(output, LABELS).items():
        assert getattr(found, name).item() == pytest.approx(value, rel=1e-12), name


def test_every_gradient_equals_finite_differences() -> None:
    output = random_output(3)
    labels_BC = torch.tensor(LABELS, dtype=torch.float64)
    inputs = tuple(value.detach().requires_grad_() for value in output)

    def terms_without_guide(*values: Tensor) -> tuple[Tensor, ...]:
        loss = acmnet_loss(ACMNetOutput(*values), labels_BC, **OPTIONS)
        return loss.instance, loss.context, loss.background, loss.feature, loss.sparse

    assert torch.autograd.gradcheck(terms_without_guide, inputs)


def test_the_guide_term_moves_the_activation_and_not_the_attention() -> None:
    output = random_output(4)
    attention_BTK = output.attention_BTK.requires_grad_()
    cas_BTC1 = output.instance_cas_BTC1.requires_grad_()
    changed = output._replace(attention_BTK=attention_BTK, instance_cas_BTC1=cas_BTC1)
    loss = acmnet_loss(changed, torch.tensor(LABELS, dtype=torch.float64), **OPTIONS)
    by_attention, by_cas = torch.autograd.grad(loss.guide, (attention_BTK, cas_BTC1), allow_unused=True)
    assert by_attention is None
    sign_BT = -torch.sign(1 - cas_BTC1[:, :, -1] - attention_BTK[:, :, 0]).detach()
    np.testing.assert_allclose(by_cas[:, :, -1], sign_BT / len(LABELS))
    assert not by_cas[:, :, :-1].any()


def test_targets_sum_to_one() -> None:
    targets = branch_targets(torch.tensor([[0.0, 1.0, 1.0]]))
    assert targets.instance_BC1.tolist() == [[0.0, 0.5, 0.5, 0.0]]
    torch.testing.assert_close(targets.context_BC1, torch.tensor([[0.0, 1 / 3, 1 / 3, 1 / 3]]))
    assert targets.background_BC1.tolist() == [[0.0, 0.0, 0.0, 1.0]]


def test_the_smallest_eps_keeps_a_float32_logarithm_finite() -> None:
    scores_BC1 = torch.tensor([[0.0, 1.0]])
    value = cross_entropy(scores_BC1, torch.tensor([[1.0, 0.0]]), 1e-45)
    assert value.item() == pytest.approx(103.2789, abs=1e-3)


def test_the_loss_of_joined_members_is_the_mean_over_the_members() -> None:
    first, second = random_output(5), random_output(6)
    labels_BC = torch.tensor(LABELS, dtype=torch.float64)
    joined = ACMNetOutput(*(torch.cat(pair) for pair in zip(first, second, strict=True)))
    whole = acmnet_loss(joined, labels_BC.repeat(2, 1), **OPTIONS).total
    parts = [acmnet_loss(output, labels_BC, **OPTIONS).total for output in (first, second)]
    torch.testing.assert_close(whole, sum(parts) / 2)


def test_the_released_sparse_term_averages_over_both_branches() -> None:
    output = random_output(7)
    labels_BC = torch.tensor(LABELS, dtype=torch.float64)
    released = acmnet_loss(output, labels_BC, **{**OPTIONS, "sparse_reduction": "mean"})
    expected = output.attention_BTK[:, :, :2].sum(1).mean()
    assert released.sparse.item() == pytest.approx(expected.item(), rel=1e-12)
