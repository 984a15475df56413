"""What a fast backend is given and what it gives back.

B items, N rows, M columns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

from torch import Tensor

Recurrence = Literal["soft_dtw", "smooth_dtw", "fsd", "lcs"]

TABLE_NAMES: dict[str, tuple[str, ...]] = {
    "soft_dtw": ("cost_BNM",),
    "smooth_dtw": ("cost_BNM",),
    "fsd": ("match_BNM", "gap_BNM"),
    "lcs": ("similarity_BNM",),
}


@dataclass(frozen=True)
class Problem:
    """A batch of tables of one recurrence; shapes, dtypes and devices are checked, contents are not.

    `tables`: (B, N, M) each, all float64, float32 or bfloat16, with any strides. What lies beyond `lengths`
    may be anything, NaN too.
    `gamma`: a number, where 0 asks for the hard maximum, or a tensor () or (B,) of any float dtype.
    `threshold`: LCS's τ, likewise; 0 for the other recurrences.
    `lengths`: (B, 2) integers or None. `bandwidth`: Sakoe-Chiba radius of soft-DTW, or None.
    """

    recurrence: Recurrence
    tables: tuple[Tensor, ...]
    gamma: float | Tensor
    threshold: float | Tensor = 0.0
    lengths: Tensor | None = None
    bandwidth: int | None = None

    @property
    def is_hard(self) -> bool:
        return not isinstance(self.gamma, Tensor) and self.gamma == 0


class Wants(IntEnum):
    """How much a backend has to compute; each level includes the ones before it."""

    VALUE = 0
    TABLE_GRADIENTS = 1
    GAMMA_GRADIENT = 2


class Solution(NamedTuple):
    """Values (B,), and their derivatives: to each table (B, N, M), zero beyond lengths, and to γ (B,).

    All are in the dtype of the computation: float64 for float64 tables, else float32. Derivatives that are
    not wanted are left out: () and None. γ's is zero in the hard case.
    """

    value_B: Tensor
    table_gradients: tuple[Tensor, ...] = ()
    gamma_gradient_B: Tensor | None = None


Solve = Callable[[Problem, Wants], Solution]
