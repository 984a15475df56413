import itertools
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ftcl.dp import lcs

BACKENDS = ["reference", "torch"]
SHAPES = [(1, 1), (1, 5), (5, 1), (4, 3), (3, 5), (5, 5)]


def path_scores(similarity_NM: Tensor, threshold: float) -> Tensor:
    """Summed similarity of every path that takes the diagonal at a match and goes up or left elsewhere."""

    def walk(i: int, j: int) -> Iterator[list[Tensor]]:
        if i < 0 or j < 0:
            yield []
        elif similarity_NM[i, j] > threshold:
            for matches in walk(i - 1, j - 1):
                yield [*matches, similarity_NM[i, j]]
        else:
            yield from walk(i - 1, j)
            yield from walk(i, j - 1)

    zero = similarity_NM.new_zeros(())
    num_rows, num_columns = similarity_NM.shape
    return torch.stack([sum(matches, zero) for matches in walk(num_rows - 1, num_columns - 1)])


def random_table(num_rows: int, num_columns: int) -> Tensor:
    generator = torch.Generator().manual_seed(10 * num_rows + num_columns)
    return torch.rand(1, num_rows, num_columns, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [0.3, 0.8])
@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_soft_value_and_gradients_sum_over_all_paths(
    backend: str, shape: tuple[int, int], threshold: float, gamma: float
) -> None:
    similarity = random_table(*shape)
    temperature = torch.tensor(gamma, dtype=torch.float64, requires_grad=True)
    expected = temperature * torch.logsumexp(path_scores(similarity[0], threshold) / temperature, dim=0)
    actual = lcs(similarity, threshold, gamma=temperature, backend=backend)[0]
    torch.testing.assert_close(actual, expected)
    inputs = (similarity, temperature)
    torch.testing.assert_close(
        torch.autograd.grad(actual, inputs),
        torch.autograd.grad(expected, inputs, allow_unused=True, materialize_grads=True),
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("threshold", [-0.5, 0.3, 0.8])
def test_hard_value_is_that_of_the_best_path(backend: str, shape: tuple[int, int], threshold: float) -> None:
    similarity = random_table(*shape)
    expected = path_scores(similarity[0], threshold).amax()
    torch.testing.assert_close(lcs(similarity, threshold, backend=backend)[0], expected)


def common_subsequence_length(a: str, b: str) -> int:
    def subsequences(text: str, length: int) -> set[tuple[str, ...]]:
        return set(itertools.combinations(text, length))

    return max(n for n in range(len(a) + 1) if subsequences(a, n) & subsequences(b, n))


@settings(deadline=None, max_examples=30)
@given(a=st.text("abc", min_size=1, max_size=6), b=st.text("abc", min_size=1, max_size=6))
def test_equal_letters_give_the_length_of_the_common_subsequence(a: str, b: str) -> None:
    equal = torch.tensor([[[float(x == y) for y in b] for x in a]], requires_grad=True)
    value = lcs(equal, 0.5)
    assert value.item() == common_subsequence_length(a, b)
    (matches,) = torch.autograd.grad(value.sum(), equal)
    # The chosen path is a common subsequence: rising pairs of equal letters.
    pairs = matches[0].nonzero().tolist()
    assert all(a[i] == b[j] for i, j in pairs)
    assert all(i < k and j < m for (i, j), (k, m) in itertools.pairwise(pairs))
    assert matches.sum() == value.sum()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 2)])
def test_hard_ties_go_up(backend: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    similarity = torch.zeros(1, rows, columns)
    similarity[0, rows - 2, columns - 1] = similarity[0, rows - 1, columns - 2] = 1.0
    similarity.requires_grad_()
    lcs(similarity, 0.5, backend=backend).sum().backward()
    assert similarity.grad is not None
    assert similarity.grad[0].nonzero().tolist() == [[rows - 2, columns - 1]]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 2)])
def test_hard_path_goes_left_when_left_is_greater(backend: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    similarity = torch.zeros(1, rows, columns)
    similarity[0, rows - 2, columns - 1] = 1.0
    similarity[0, rows - 1, columns - 2] = 1.5
    similarity.requires_grad_()
    lcs(similarity, 0.5, backend=backend).sum().backward()
    assert similarity.grad is not None
    assert similarity.grad[0].nonzero().tolist() == [[rows - 1, columns - 2]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_match_is_strict_and_forced(backend: str) -> None:
    at_threshold = torch.full((1, 2, 2), 0.5)
    assert lcs(at_threshold, 0.5, backend=backend).item() == 0.0
    # The weak match in the corner must be taken although going up would give 0.9.
    similarity = torch.tensor([[[0.0, 0.9], [0.0, 0.6]]])
    torch.testing.assert_close(lcs(similarity, 0.5, backend=backend), torch.tensor([0.6]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_threshold_per_item(backend: str) -> None:
    similarity = random_table(4, 5).detach().expand(2, -1, -1)
    thresholds = torch.tensor([0.2, 0.7], dtype=torch.float64)
    together = lcs(similarity, thresholds, backend=backend)
    alone = [lcs(similarity[:1], float(x), backend=backend) for x in thresholds]
    torch.testing.assert_close(together, torch.cat(alone))
    scalar = lcs(similarity, thresholds[0], backend=backend)
    torch.testing.assert_close(scalar[1:], alone[0])


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (float("nan"), r"threshold.* must be finite"),
        (float("inf"), r"threshold.* must be finite"),
        (torch.tensor([0.1, torch.nan]), r"threshold.* must be finite"),
        (torch.tensor([1, 2]), "threshold has dtype torch.int64"),
        (torch.rand(3), r"threshold must have shape \(\) or \(2,\), got \(3,\)"),
        (None, "threshold must be a number or a tensor"),
    ],
)
def test_bad_threshold(threshold: float | Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lcs(torch.rand(2, 3, 4), threshold)
