import itertools

import pytest
import torch
from torch import Tensor

from ftcl.dp import available_backends, dtw, smooth_dtw, soft_dtw
from tests.ftcl.dp.alignments import SHAPES, alignments, path_costs, random_costs

BACKENDS = sorted(available_backends("cpu"))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def mean_path_cost(cost_NM: Tensor, gamma: float) -> Tensor:
    """Σ over all alignments of their probability · cost, by the definition of a random walk from the end.

    The walk goes from a cell to a predecessor with probability softmax(−R/γ) over the predecessors that are
    in the table, where R is the mean cost of the walks from there.
    """
    num_rows, num_columns = cost_NM.shape
    means: dict[tuple[int, int], Tensor] = {}
    steps: dict[tuple[tuple[int, int], tuple[int, int]], Tensor] = {}
    for i in range(num_rows):
        for j in range(num_columns):
            before = [cell for cell in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if cell in means]
            means[i, j] = cost_NM[i, j]
            if before:
                values = torch.stack([means[cell] for cell in before])
                shares = torch.softmax(-values / gamma, dim=0)
                means[i, j] = means[i, j] + (shares * values).sum()
                steps.update({((i, j), cell): share for cell, share in zip(before, shares, strict=True)})
    total = cost_NM.new_zeros(())
    for path in alignments(num_rows, num_columns):
        probability = cost_NM.new_ones(())
        for before, cell in itertools.pairwise(path):
            probability = probability * steps[cell, before]
        total = total + probability * sum(cost_NM[cell] for cell in path)
    return total


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_the_value_is_the_mean_cost_of_a_random_alignment(
    backend: str, shape: tuple[int, int], gamma: float
) -> None:
    cost = random_costs(*shape, batch=1)
    expected = mean_path_cost(cost[0], gamma)
    actual = smooth_dtw(cost, gamma, backend=backend)[0]
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(torch.autograd.grad(actual, cost), torch.autograd.grad(expected, cost))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_number_zero_is_dtw(backend: str, shape: tuple[int, int]) -> None:
    cost = random_costs(*shape)
    hard, best = smooth_dtw(cost, 0, backend=backend), path_costs(cost).amin(dim=1)
    torch.testing.assert_close(hard, best)
    torch.testing.assert_close(torch.autograd.grad(hard.sum(), cost), torch.autograd.grad(best.sum(), cost))


def test_the_value_lies_above_dtw_and_soft_dtw_below(backend: str) -> None:
    cost = random_costs(7, 9, batch=8)
    best = dtw(cost)
    assert (smooth_dtw(cost, 0.5, backend=backend) > best).all()
    assert (soft_dtw(cost, 0.5, backend=backend) < best).all()
