import pytest
import torch

from ftcl.dp import available_backends, dtw
from tests.ftcl.dp.alignments import SHAPES, alignments, path_costs, random_costs

FAST_BACKENDS = [name for name in available_backends("cpu") if name != "reference"]


@pytest.mark.parametrize("backend", FAST_BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_the_path_is_that_of_the_best_alignment(backend: str, shape: tuple[int, int]) -> None:
    cost = random_costs(*shape)
    best = path_costs(cost).min(dim=1)
    value, path = dtw(cost, return_path=True, backend=backend)
    torch.testing.assert_close(value, best.values)
    assert path.shape == (2, sum(shape) - 1, 2)
    for item, index in enumerate(best.indices.tolist()):
        expected = alignments(*shape)[index]
        padding = [(-1, -1)] * (sum(shape) - 1 - len(expected))
        assert [tuple(cell) for cell in path[item].tolist()] == [*expected, *padding]


@pytest.mark.parametrize("backend", FAST_BACKENDS)
def test_a_path_ends_at_the_lengths_of_its_item(backend: str) -> None:
    cost = torch.ones(2, 4, 5)
    cost[:, range(4), range(4)] = 0.0
    cost[1, 2:] = torch.nan
    _, path = dtw(cost, torch.tensor([[4, 5], [2, 4]]), return_path=True, backend=backend)
    assert path[0].tolist()[:6] == [[0, 0], [1, 1], [2, 2], [3, 3], [3, 4], [-1, -1]]
    assert path[1].tolist()[:5] == [[0, 0], [1, 1], [1, 2], [1, 3], [-1, -1]]


def test_the_value_beside_a_path_has_a_gradient() -> None:
    cost = random_costs(3, 4)
    value, path = dtw(cost, return_path=True)
    (gradient,) = torch.autograd.grad(value.sum(), cost)
    visited = torch.zeros(2, 3, 4, dtype=torch.float64)
    for item, cells in enumerate(path.tolist()):
        for i, j in cells:
            if i >= 0:
                visited[item, i, j] = 1.0
    torch.testing.assert_close(gradient, visited)


def test_an_empty_batch_has_no_paths() -> None:
    value, path = dtw(torch.empty(0, 3, 4), return_path=True)
    assert value.shape == (0,)
    assert path.shape == (0, 6, 2)


def test_the_reference_has_no_path() -> None:
    with pytest.raises(ValueError, match="'reference' computes values only"):
        dtw(torch.zeros(1, 2, 2), return_path=True, backend="reference")
