"""What a study searches for."""

from dataclasses import dataclass

from ftcl.recipes.recipe import Direction
from study.rows import Row


@dataclass(frozen=True)
class Goal:
    """What the search maximises or minimises, as it is named in the records of epochs and results."""

    name: str  # "validation/<metric>"
    direction: Direction

    def best(self, values: list[float]) -> float:
        """Return the best of some values."""
        return max(values) if self.direction == "max" else min(values)

    def curve(self, row: Row) -> dict[int, float]:
        """Return, for each epoch of a trial, the best value up to it (the epoch that would be chosen)."""
        values: list[float] = []
        best = {}
        for epoch in sorted(epoch for epoch, metrics in row.epochs.items() if self.name in metrics):
            values.append(row.epochs[epoch][self.name])
            best[epoch] = self.best(values)
        return best
