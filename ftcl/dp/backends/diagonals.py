"""Tables laid out by anti-diagonals, so that a whole diagonal of a whole batch is one contiguous vector.

The cells of one anti-diagonal do not depend on each other. Diagonal k holds the cells with row + column = k;
a cell's lane is its index along the shorter side. An interior table holds the cells themselves; a bordered
table has two more diagonals and one more lane in front, for row 0 and column 0 of the recurrence.

B items, N rows, M columns, K = N + M − 1 diagonals, L = min(N, M) lanes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Neighbours(NamedTuple):
    """Views of a bordered table, each (K, L, B): every cell, and the cells that it is computed from."""

    cell: Tensor
    diagonal: Tensor
    up: Tensor
    left: Tensor


@dataclass(frozen=True)
class Diagonals:
    """The diagonal-major layout of tables with `num_rows` rows and `num_columns` columns."""

    num_rows: int
    num_columns: int

    @property
    def num_lanes(self) -> int:
        return min(self.num_rows, self.num_columns)

    @property
    def num_diagonals(self) -> int:
        return self.num_rows + self.num_columns - 1

    def bordered(self, like_BNM: Tensor) -> Tensor:
        """A bordered table of zeros for a batch like the given one."""
        return like_BNM.new_zeros(self.num_diagonals + 2, self.num_lanes + 1, like_BNM.shape[0])

    def from_cells(self, x_BNM: Tensor, outside: float) -> Tensor:
        """An interior table of the given cells; places that are no cell hold `outside`."""
        x_KLB = x_BNM.new_full((self.num_diagonals, self.num_lanes, x_BNM.shape[0]), outside)
        self.cells(x_KLB).copy_(x_BNM)
        return x_KLB

    def cells(self, x_KLB: Tensor) -> Tensor:
        """The cells of an interior table as a (B, N, M) view."""
        diagonal, lane, item = x_KLB.stride()
        along_lanes, across = diagonal + lane, diagonal
        row, column = (along_lanes, across) if self._rows_on_lanes else (across, along_lanes)
        shape = (x_KLB.shape[2], self.num_rows, self.num_columns)
        return x_KLB.as_strided(shape, (item, row, column), x_KLB.storage_offset())

    def neighbours(self, bordered: Tensor) -> Neighbours:
        """The cells of a bordered table beside their three predecessors."""
        previous_lane, same_lane = bordered[1:-1, :-1], bordered[1:-1, 1:]
        up, left = (previous_lane, same_lane) if self._rows_on_lanes else (same_lane, previous_lane)
        return Neighbours(bordered[2:, 1:], bordered[:-2, :-1], up, left)

    def end(self, lengths_B2: Tensor | None) -> tuple[int | Tensor, ...]:
        """Index of the last cell of each item in a bordered table."""
        if lengths_B2 is None:
            return (self.num_rows + self.num_columns, self.num_lanes)
        lengths_B2 = lengths_B2.long()
        lane_B = lengths_B2[:, 0 if self._rows_on_lanes else 1]
        return (lengths_B2.sum(dim=1), lane_B, torch.arange(len(lane_B), device=lane_B.device))

    def adjoint(self, bordered: Tensor, end: tuple[int | Tensor, ...], weights: Iterable[Tensor]) -> Tensor:
        """Derivative E of each item's last cell to every cell, as an interior table.

        E[i,j] = [end] + E[i,j+1]·w_left[i,j+1] + E[i+1,j]·w_up[i+1,j] + E[i+1,j+1]·w_diagonal[i+1,j+1],
        with `weights` in the order diagonal, up, left, each (K, L, B). What leaves the cells never comes
        back, for predecessors lie up and left only.
        """
        adjoint = torch.zeros_like(bordered)
        adjoint[end] = 1.0
        views = self.neighbours(adjoint)
        # One unbind makes all the views of a loop; indexing in the loop would cost more than the arithmetic.
        steps = zip(*(x.unbind() for x in (*views, *weights)), strict=True)
        for cell, diagonal, up, left, w_diagonal, w_up, w_left in reversed(list(steps)):
            diagonal.addcmul_(cell, w_diagonal)
            up.addcmul_(cell, w_up)
            left.addcmul_(cell, w_left)
        return views.cell

    @property
    def _rows_on_lanes(self) -> bool:
        return self.num_rows <= self.num_columns
