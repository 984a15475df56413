import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from ftcl.dp import fsd

BACKENDS = ["reference", "torch"]


@functools.cache
def path_counts(num_rows: int, num_columns: int) -> tuple[Tensor, Tensor]:
    """Which cells each alignment visits, and which of those it leaves by a gap: two (paths, N, M) tensors."""

    def walk(i: int, j: int) -> Iterator[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
        if i < 0 or j < 0:
            yield [], []
            return
        for di, dj in ((1, 1), (1, 0), (0, 1)):
            for cells, gaps in walk(i - di, j - dj):
                yield [*cells, (i, j)], gaps if di == dj else [*gaps, (i, j)]

    paths = list(walk(num_rows - 1, num_columns - 1))
    counts = torch.zeros(2, len(paths), num_rows, num_columns, dtype=torch.float64)
    for path, kinds in enumerate(paths):
        for kind, cells in enumerate(kinds):
            for i, j in cells:
                counts[kind, path, i, j] = 1.0
    return counts[0], counts[1]


def path_scores(match_BNM: Tensor, gap_BNM: Tensor) -> Tensor:
    visited, gaps = path_counts(*match_BNM.shape[1:])
    return torch.einsum("pnm,bnm->bp", visited, match_BNM) + torch.einsum("pnm,bnm->bp", gaps, gap_BNM)


def random_tables(num_rows: int, num_columns: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(10 * num_rows + num_columns)
    match, gap = torch.rand(2, 2, num_rows, num_columns, generator=generator, dtype=torch.float64) * 2 - 1
    return match.requires_grad_(), gap.requires_grad_()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (2, 2), (4, 3), (3, 5), (5, 5)])
@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_soft_value_and_gradients_sum_over_all_alignments(
    backend: str, shape: tuple[int, int], gamma: float
) -> None:
    match, gap = random_tables(*shape)
    temperature = torch.tensor(gamma, dtype=torch.float64, requires_grad=True)
    expected = temperature * torch.logsumexp(path_scores(match, gap) / temperature, dim=1)
    actual = fsd(match, gap, temperature, backend=backend)
    torch.testing.assert_close(actual, expected)
    inputs = (match, gap, temperature)
    torch.testing.assert_close(
        torch.autograd.grad(actual.sum(), inputs), torch.autograd.grad(expected.sum(), inputs)
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 3), (3, 5), (5, 5)])
def test_hard_value_and_gradients_are_those_of_the_best_alignment(
    backend: str, shape: tuple[int, int]
) -> None:
    match, gap = random_tables(*shape)
    expected = path_scores(match, gap).amax(dim=1)
    actual = fsd(match, gap, 0, backend=backend)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(
        torch.autograd.grad(actual.sum(), (match, gap)), torch.autograd.grad(expected.sum(), (match, gap))
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(3, 3), (3, 4), (4, 3)])
def test_hard_ties_go_to_the_diagonal(backend: str, shape: tuple[int, int]) -> None:
    match = torch.zeros(1, *shape, requires_grad=True)
    gap = torch.zeros(1, *shape, requires_grad=True)
    fsd(match, gap, 0, backend=backend).sum().backward()
    expected = torch.zeros(shape)
    for step in range(3):
        expected[-1 - step, -1 - step] = 1.0
    assert match.grad is not None
    assert gap.grad is not None
    torch.testing.assert_close(match.grad[0], expected)
    torch.testing.assert_close(gap.grad[0], torch.zeros(shape))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 2)])
def test_hard_ties_without_the_diagonal_go_up(backend: str, shape: tuple[int, int]) -> None:
    match = torch.zeros(1, *shape, requires_grad=True)
    gap = torch.zeros(1, *shape)
    gap[0, -1, -1] = 1.0
    fsd(match, gap, 0, backend=backend).sum().backward()
    assert match.grad is not None
    visited = {tuple(cell) for cell in match.grad[0].nonzero().tolist()}
    rows, columns = shape
    assert (rows - 2, columns - 1) in visited
    assert (rows - 1, columns - 2) not in visited


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("gamma", [0.0, 0.2])
def test_swapping_the_sequences_changes_nothing(backend: str, gamma: float) -> None:
    match, gap = random_tables(6, 4)
    value = fsd(match, gap, gamma, backend=backend)
    swapped = fsd(match.mT, gap.mT, gamma, backend=backend)
    torch.testing.assert_close(swapped, value)
    torch.testing.assert_close(
        torch.autograd.grad(swapped.sum(), (match, gap)), torch.autograd.grad(value.sum(), (match, gap))
    )


MATCH = torch.zeros(2, 3, 4)


@pytest.mark.parametrize(
    ("gap", "message"),
    [
        (torch.zeros(2, 4, 3), r"gap_BNM must have the shape of match_BNM, \(2, 3, 4\), got \(2, 4, 3\)"),
        (torch.zeros(2, 3, 4, dtype=torch.float64), "gap_BNM has dtype torch.float64 but match_BNM"),
        (torch.zeros(2, 3, 4, dtype=torch.int32), "gap_BNM has dtype torch.int32; convert"),
        (torch.zeros(2, 3, 4, device="meta"), "gap_BNM is on meta"),
        (torch.full((2, 3, 4), torch.nan), "gap_BNM must be finite"),
    ],
)
def test_bad_gap(gap: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fsd(MATCH, gap, 0.1)
