"""FTCL's candidates and contrast against plain loops in float64.

Shapes: B pairs or videos, T snippets, L candidates, F channels.
"""

import math

import numpy as np
import pytest
import torch

from ftcl.losses import (
    fsd_values,
    gather_rows,
    lcs_values,
    pair_contrast,
    rank_by_attention,
    select_candidates,
)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (math.sqrt(a @ a) * math.sqrt(b @ b)))


def fsd_in_loops(first: np.ndarray, second: np.ndarray, gamma: float) -> float:
    half = first.shape[1] // 2
    table = np.zeros((len(first) + 1, len(second) + 1))
    for i in range(1, len(first) + 1):
        for j in range(1, len(second) + 1):
            a, b = first[i - 1], second[j - 1]
            gap = cosine(a[half:], b[half:])
            ways = (table[i - 1, j - 1], gap + table[i - 1, j], gap + table[i, j - 1])
            smooth = gamma * math.log(sum(math.exp(way / gamma) for way in ways))
            table[i, j] = cosine(a[:half], b[:half]) + smooth
    return table[-1, -1]


def lcs_in_loops(first: np.ndarray, second: np.ndarray, threshold: float) -> float:
    table = np.zeros((len(first) + 1, len(second) + 1))
    for i in range(1, len(first) + 1):
        for j in range(1, len(second) + 1):
            similarity = cosine(first[i - 1], second[j - 1])
            if similarity > threshold:
                table[i, j] = table[i - 1, j - 1] + similarity
            else:
                table[i, j] = max(table[i - 1, j], table[i, j - 1])
    return table[-1, -1]


def random_pair(rows: int = 5, columns: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, rows, 6), (3, columns, 6))
    first, second = (torch.rand(shape, dtype=torch.float64, generator=generator) for shape in shapes)
    return first - 0.3, second - 0.3


def test_fsd_equals_plain_loops() -> None:
    first, second = random_pair(5, 4)
    found = fsd_values(first, second, gamma=0.1)
    expected = [fsd_in_loops(a, b, 0.1) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_lcs_equals_plain_loops() -> None:
    first, second = random_pair(8, 6)
    found = lcs_values(first, second, threshold=0.4)
    expected = [lcs_in_loops(a, b, 0.4) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    assert len(set(expected)) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_gradients_equal_finite_differences() -> None:
    first, second = (value.requires_grad_() for value in random_pair(4, 5))
    assert torch.autograd.gradcheck(lambda a, b: fsd_values(a, b, gamma=0.1), (first, second))
    assert torch.autograd.gradcheck(lambda a, b: lcs_values(a, b, threshold=0.4), (first, second))


def test_the_control_without_dynamic_programming_scales_the_mean_similarity() -> None:
    first, second = random_pair(5, 4)
    a, b = first[0].numpy(), second[0].numpy()
    whole = 4 * np.mean([[cosine(x, y) for y in b] for x in a])
    match = 4 * np.mean([[cosine(x[:3], y[:3]) for y in b] for x in a])
    found_lcs = lcs_values(first, second, threshold=0.4, alignment="mean")[0].item()
    found_fsd = fsd_values(first, second, gamma=0.1, alignment="mean")[0].item()
    assert found_lcs == pytest.approx(whole)
    assert found_fsd == pytest.approx(match)


@pytest.mark.parametrize(
    ("positive", "expected"),
    [
        ([True, False, False, True], (2.0 + 3.0) / 2 - (1.0 + 7.0) / 2),
        ([True, True, True, True], -(1.0 + 2.0 + 3.0 + 7.0) / 4),
        ([False, False, False, False], (1.0 + 2.0 + 3.0 + 7.0) / 4),
        ([False, True, True, True], 1.0 - (2.0 + 3.0 + 7.0) / 3),
    ],
)
def test_contrast_takes_each_mean_over_its_own_count(positive: list[bool], expected: float) -> None:
    value_B = torch.tensor([1.0, 2.0, 3.0, 7.0], dtype=torch.float64)
    assert pair_contrast(value_B, torch.tensor(positive)).item() == pytest.approx(expected)


def test_candidates_are_the_highest_ranks_in_temporal_order() -> None:
    attention_BT = torch.tensor([[0.2, 0.9, 0.1, 0.8, 0.5, 0.3]])
    ranking_BT = rank_by_attention(attention_BT)
    assert ranking_BT.tolist() == [[1, 3, 4, 5, 0, 2]]
    assert select_candidates(ranking_BT, 0, 3).tolist() == [[1, 3, 4]]
    assert select_candidates(ranking_BT, 2, 5).tolist() == [[0, 4, 5]]
    assert select_candidates(ranking_BT, 4, 6).tolist() == [[0, 2]]


def test_equal_attentions_keep_their_temporal_order() -> None:
    assert rank_by_attention(torch.zeros(1, 64)).tolist() == [list(range(64))]


def test_shuffled_candidates_are_the_same_snippets_permuted_row_by_row() -> None:
    ranking_BT = torch.arange(20).expand(6, -1)
    shuffled_BL = select_candidates(ranking_BT, 0, 10, shuffle=torch.Generator().manual_seed(0))
    again_BL = select_candidates(ranking_BT, 0, 10, shuffle=torch.Generator().manual_seed(0))
    assert torch.equal(shuffled_BL, again_BL)
    assert torch.equal(shuffled_BL.sort(1).values, ranking_BT[:, :10])
    assert len({tuple(row) for row in shuffled_BL.tolist()}) == 6


def test_gather_takes_whole_rows() -> None:
    x_BTF = torch.arange(24.0).view(2, 4, 3)
    index_BL = torch.tensor([[3, 1], [0, 2]])
    assert torch.equal(gather_rows(x_BTF, index_BL)[1], x_BTF[1, [0, 2]])
    assert torch.equal(gather_rows(x_BTF, index_BL)[0], x_BTF[0, [3, 1]])


def test_gather_keeps_the_layout_for_the_gradient() -> None:
    x_BTF = torch.arange(24.0).view(2, 4, 3)
    index_BL = torch.tensor([[3, 1], [0, 2]])
    for x in (x_BTF.clone().requires_grad_(), x_BTF.mT.contiguous().mT.requires_grad_()):
        rows = gather_rows(x, index_BL)
        assert torch.equal(rows, torch.stack([x[b, i] for b, i in enumerate(index_BL)]))
        (gradient,) = torch.autograd.grad(rows.sum(), x)
        assert gradient.stride() == x.stride()
        assert gradient.sum(2).tolist() == [[0, 3, 0, 3], [3, 0, 3, 0]]
