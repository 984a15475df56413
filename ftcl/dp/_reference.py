"""What the plain-loop implementations share: a table as nested lists of one value per item."""

import torch
from torch import Tensor

Table = list[list[Tensor]]


def zero_table(like_BNM: Tensor) -> Table:
    """Rows 0..N and columns 0..M of zeros; row 0 and column 0 are the border."""
    batch, num_rows, num_columns = like_BNM.shape
    return [[like_BNM.new_zeros(batch)] * (num_columns + 1) for _ in range(num_rows + 1)]


def end_of_table(table: Table, lengths_B2: Tensor | None) -> Tensor:
    """The value of each item's last cell."""
    if lengths_B2 is None:
        return table[-1][-1]
    stacked = torch.stack([torch.stack(row) for row in table])
    item_B = torch.arange(len(lengths_B2), device=lengths_B2.device)
    return stacked[lengths_B2[:, 0], lengths_B2[:, 1], item_B]
