"""What is timed: functions, sizes and seeded inputs, alike for every contender.

B items, N rows, M columns of their tables; for the contrasts B pairs of L rows with F channels.
"""

import zlib
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

THRESHOLD = 0.92  # FTCL's similarity above which two snippets match
TABLES = ("soft_dtw", "fsd", "lcs")
CONTRASTS = ("fsd_contrast", "lcs_contrast")
FUNCTIONS = (*TABLES, *CONTRASTS)


class Size(NamedTuple):
    batch: int
    rows: int
    columns: int

    def __str__(self) -> str:
        return f"{self.batch},{self.rows},{self.columns}"


SIZES = (
    Size(16, 5, 5),
    Size(16, 30, 30),
    Size(64, 128, 128),
    Size(16, 512, 512),
    Size(512, 128, 128),
    Size(4096, 128, 128),
    Size(4, 2048, 2048),
    Size(2, 30, 4096),
)
QUICK_SIZES = (Size(16, 5, 5), Size(16, 30, 30), Size(64, 128, 128))
GPU_SIZES = (Size(4096, 128, 128),)
GROWTH_SIZES = tuple(Size(16, n, n) for n in (5, 8, 16, 32, 64, 128, 256, 512, 1024))


@dataclass(frozen=True)
class Case:
    """One function at one size.

    `section`: "sizes", "growth" (for the picture) or "cold" (a low temperature, where digits are lost).
    `channels`: F of the contrasts, 0 for tables.
    """

    section: str
    function: str
    size: Size
    gamma: float = 0.1
    largest_cost: float = 1.0
    channels: int = 0

    @property
    def cells(self) -> int:
        return self.size.batch * self.size.rows * self.size.columns

    @property
    def bytes_moved(self) -> int:
        """What must cross the memory at least in float32: inputs read once, gradients written once."""
        if self.function in CONTRASTS:
            return 2 * 4 * 2 * self.size.batch * self.size.rows * self.channels
        return 2 * 4 * self.cells * (2 if self.function == "fsd" else 1)

    def __str__(self) -> str:
        shape = f"{self.size}" + (f",{self.channels}" if self.channels else "")
        return f"{self.function} {shape}"


COLD = Case("cold", "soft_dtw", Size(2, 512, 512), gamma=0.01, largest_cost=50.0)
# FTCL's FSD compares 5 candidates of 1024 channels, half of them for each table, its LCS 30 of 2048.
FTCL_SIZES = {"fsd_contrast": Size(16, 5, 5), "lcs_contrast": Size(16, 30, 30)}
CONTRAST_CASES = (
    Case("sizes", "fsd_contrast", Size(16, 5, 5), channels=1024),
    Case("sizes", "fsd_contrast", Size(16, 30, 30), channels=2048),
    Case("sizes", "lcs_contrast", Size(16, 5, 5), gamma=0.0, channels=1024),
    Case("sizes", "lcs_contrast", Size(16, 30, 30), gamma=0.0, channels=2048),
)


def table_case(function: str, size: Size, section: str = "sizes") -> Case:
    """A case of a function of tables at FTCL's temperature; LCS takes the hard maximum."""
    return Case(section, function, size, gamma=0.0 if function == "lcs" else 0.1)


def make_inputs(case: Case) -> tuple[Tensor, ...]:
    """Float32 tensors on the CPU that the function is differentiated by, the same in every process."""
    generator = torch.Generator().manual_seed(zlib.crc32(str(case).encode()))
    if case.function in CONTRASTS:
        return (_rows(case, generator),)
    shape = tuple(case.size)
    if case.function == "soft_dtw":
        return (case.largest_cost * torch.rand(shape, generator=generator),)
    if case.function == "fsd":
        return (
            2 * torch.rand(shape, generator=generator) - 1,
            2 * torch.rand(shape, generator=generator) - 1,
        )
    # In steps of 2^-10 every sum along a path is exact in float32: the path is the same in every precision.
    return (torch.randint(1025, shape, generator=generator) / 1024,)


def is_positive(case: Case, device: torch.device) -> Tensor:
    """Every other pair shares its label."""
    return torch.arange(case.size.batch, device=device) % 2 == 0


def chosen_rows(case: Case, device: torch.device) -> Tensor:
    """The rows (2B, L) that LCS's contrast compares: all of them, in an order of its own per sequence."""
    generator = torch.Generator().manual_seed(case.size.rows)
    noise_2BL = torch.rand(2 * case.size.batch, case.size.rows, generator=generator)
    return noise_2BL.argsort(dim=1).to(device)


def match_share(rows_2BLF: Tensor) -> float:
    """The share of cells whose cosine similarity is above the threshold."""
    first_BLF, second_BLF = torch.nn.functional.normalize(rows_2BLF.double(), dim=2).chunk(2)
    return float((first_BLF @ second_BLF.mT > THRESHOLD).double().mean())


def _rows(case: Case, generator: torch.Generator) -> Tensor:
    """Rows around a few directions with noise of varying strength: independent rows would never match."""
    items, length, channels, num_directions = 2 * case.size.batch, case.size.rows, case.channels, 6
    direction_KF = torch.randn(num_directions, channels, generator=generator)
    chosen_2BL = torch.randint(num_directions, (items, length), generator=generator)
    noise_2BL1 = 0.5 * torch.rand(items, length, 1, generator=generator)
    noise_2BLF = torch.randn(items, length, channels, generator=generator)
    return direction_KF[chosen_2BL] + noise_2BL1 * noise_2BLF
