import pytest
import torch
from torch import Tensor

from ftcl.dp import available_backends, soft_dtw
from tests.ftcl.dp.alignments import SHAPES, alignments, indicators, path_costs, random_costs

BACKENDS = sorted(available_backends("cpu"))


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


def gradient(value_B: Tensor, x: Tensor) -> Tensor:
    return torch.autograd.grad(value_B.sum(), x)[0]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.05, 1.0])
def test_soft_value_and_gradients_sum_over_all_alignments(
    backend: str, shape: tuple[int, int], gamma: float
) -> None:
    cost = random_costs(*shape)
    temperature = torch.tensor(gamma, dtype=torch.float64, requires_grad=True)
    expected = -temperature * torch.logsumexp(-path_costs(cost) / temperature, dim=1)
    actual = soft_dtw(cost, temperature, backend=backend)
    torch.testing.assert_close(actual, expected)
    inputs = (cost, temperature)
    torch.testing.assert_close(
        torch.autograd.grad(actual.sum(), inputs), torch.autograd.grad(expected.sum(), inputs)
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_hard_value_and_gradient_are_those_of_the_best_alignment(
    backend: str, shape: tuple[int, int]
) -> None:
    cost = random_costs(*shape)
    best = path_costs(cost).min(dim=1)
    actual = soft_dtw(cost, 0, backend=backend)
    torch.testing.assert_close(actual, best.values)
    torch.testing.assert_close(gradient(actual, cost), indicators(*shape)[best.indices])


@pytest.mark.parametrize("bandwidth", [0, 1, 2])
@pytest.mark.parametrize("gamma", [0.0, 0.3])
def test_a_band_keeps_the_alignments_inside_it(backend: str, bandwidth: int, gamma: float) -> None:
    for rows, columns in SHAPES:
        inside = [
            all(abs(i * (columns - 1) / max(rows - 1, 1) - j) <= bandwidth + 1e-9 for i, j in path)
            for path in alignments(rows, columns)
        ]
        cost = random_costs(rows, columns)
        actual = soft_dtw(cost, gamma, bandwidth=bandwidth, backend=backend)
        if not any(inside):
            assert actual.tolist() == [torch.inf, torch.inf]
            assert gradient(actual, cost).count_nonzero() == 0
            continue
        costs = path_costs(cost)[:, torch.tensor(inside)]
        expected = -gamma * torch.logsumexp(-costs / gamma, dim=1) if gamma else costs.amin(dim=1)
        torch.testing.assert_close(actual, expected)
        torch.testing.assert_close(gradient(actual, cost), gradient(expected, cost))


def test_the_band_follows_the_diagonal_of_the_items_own_lengths(backend: str) -> None:
    cost = random_costs(7, 6, batch=3)
    lengths = torch.tensor([[7, 6], [3, 6], [5, 2]])
    together = soft_dtw(cost, 0.1, lengths, bandwidth=2, backend=backend)
    for item, (rows, columns) in enumerate(lengths.tolist()):
        alone = soft_dtw(cost[item : item + 1, :rows, :columns], 0.1, bandwidth=2, backend=backend)
        torch.testing.assert_close(together[item], alone[0])


def test_an_infeasible_item_leaves_its_neighbours_alone(backend: str) -> None:
    cost = random_costs(2, 9, batch=2)
    gamma = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([[2, 9], [2, 3]])
    value_B = soft_dtw(cost, gamma, lengths, bandwidth=1, backend=backend)
    assert value_B[0] == torch.inf
    cost_gradient, gamma_gradient = torch.autograd.grad(value_B[1], (cost, gamma))
    assert cost_gradient[0].count_nonzero() == 0
    assert cost_gradient[1].sum() > 2
    assert gamma_gradient.isfinite()


def test_every_alignment_crosses_every_cut(backend: str) -> None:
    cost = random_costs(6, 8)
    share = gradient(soft_dtw(cost, 0.2, backend=backend), cost)
    costs = path_costs(cost)
    weights = torch.softmax(-costs / 0.2, dim=1)
    lengths = indicators(6, 8).sum(dim=(1, 2))
    torch.testing.assert_close(share.sum(dim=(1, 2)), weights @ lengths)
    for row in range(6):
        assert (share[:, row].sum(dim=1) >= 1 - 1e-9).all()
    for end in (0, -1):
        torch.testing.assert_close(share[:, end, end], torch.ones(2, dtype=torch.float64))


def test_swapping_the_sequences_changes_nothing(backend: str) -> None:
    cost = random_costs(6, 4)
    for gamma in (0.0, 0.2):
        value, swapped = (soft_dtw(x, gamma, backend=backend) for x in (cost, cost.mT))
        torch.testing.assert_close(swapped, value)
        torch.testing.assert_close(gradient(swapped, cost), gradient(value, cost))


def test_a_constant_on_all_costs_counts_once_a_step(backend: str) -> None:
    # On one row there is one path, of M cells.
    cost = random_costs(1, 7)
    shifted = soft_dtw(cost + 0.25, 0.1, backend=backend)
    torch.testing.assert_close(shifted, soft_dtw(cost, 0.1, backend=backend) + 7 * 0.25)


@pytest.mark.parametrize("shape", [(3, 3), (3, 4), (4, 3)])
def test_hard_ties_go_to_the_diagonal(backend: str, shape: tuple[int, int]) -> None:
    cost = torch.zeros(1, *shape, requires_grad=True)
    share = gradient(soft_dtw(cost, 0, backend=backend), cost)[0]
    for step in range(3):
        assert share[-1 - step, -1 - step] == 1


def test_hard_ties_without_the_diagonal_go_up(backend: str) -> None:
    cost = torch.zeros(1, 3, 3)
    cost[0, 1, 1] = 1.0
    cost.requires_grad_()
    share = gradient(soft_dtw(cost, 0, backend=backend), cost)[0]
    assert share.tolist() == [[1, 1, 0], [0, 0, 1], [0, 0, 1]]


@pytest.mark.parametrize("bandwidth", [-1, 1.5, True, "2"])
def test_bad_bandwidth(bandwidth: object) -> None:
    with pytest.raises(ValueError, match="bandwidth must be an integer of at least 0, or None, got"):
        soft_dtw(torch.zeros(1, 2, 2), 0.1, bandwidth=bandwidth)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_a_low_temperature_leaves_three_digits(backend: str, seed: int) -> None:
    size = 24 if backend == "reference" else 512  # whose loops would take minutes
    cost = 50 * torch.rand(1, size, size, generator=torch.Generator().manual_seed(seed))
    narrow, wide = cost.clone().requires_grad_(), cost.double().requires_grad_()
    exact = gradient(soft_dtw(wide, 0.01, backend="torch"), wide)
    found = gradient(soft_dtw(narrow, 0.01, backend=backend), narrow)
    assert (found - exact).abs().max() <= 1e-3 * exact.abs().max()
