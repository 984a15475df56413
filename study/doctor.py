"""Look at every node of a cluster before a study does: what is wrong, where, and how to mend it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Questions:
    """What to look at; None: not asked."""

    space: str | None = None
    data: str | None = None
    out: str | None = None
    ledger: str | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    address: str | None = None
