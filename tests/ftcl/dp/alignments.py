"""All monotone alignments of small tables: the definition that soft-DTW, smoothDTW and DTW are tested by."""

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

Path = list[tuple[int, int]]
SHAPES = [(n, m) for n in range(1, 6) for m in range(1, 6)]


@functools.cache
def alignments(num_rows: int, num_columns: int) -> list[Path]:
    """Every path from the first to the last cell by steps down, right and diagonally."""

    def walk(i: int, j: int) -> Iterator[Path]:
        if i < 0 or j < 0:
            return
        if i == 0 and j == 0:
            yield [(0, 0)]
            return
        for di, dj in ((1, 1), (1, 0), (0, 1)):
            for path in walk(i - di, j - dj):
                yield [*path, (i, j)]

    return list(walk(num_rows - 1, num_columns - 1))


@functools.cache
def indicators(num_rows: int, num_columns: int) -> Tensor:
    """1 on the cells of each alignment, (paths, N, M)."""
    paths = alignments(num_rows, num_columns)
    visited = torch.zeros(len(paths), num_rows, num_columns, dtype=torch.float64)
    for path, cells in enumerate(paths):
        for i, j in cells:
            visited[path, i, j] = 1.0
    return visited


def path_costs(cost_BNM: Tensor) -> Tensor:
    """Summed cost of each alignment, (B, paths)."""
    return torch.einsum("pnm,bnm->bp", indicators(*cost_BNM.shape[1:]), cost_BNM)


def random_costs(num_rows: int, num_columns: int, batch: int = 2) -> Tensor:
    """Costs in [-1, 1] that get a gradient."""
    generator = torch.Generator().manual_seed(10 * num_rows + num_columns)
    cost = torch.rand(batch, num_rows, num_columns, generator=generator, dtype=torch.float64) * 2 - 1
    return cost.requires_grad_()
