"""Which seeds a phase runs on: the first ones, or the first ones whose pretrained model passes the gate."""

from collections.abc import Callable

from study.design import GATE_ATTEMPTS, GatedSeeds, gated_seeds


class SeedPool:
    """The seeds of one phase, in order; with a gate, a seed that misses it is replaced by the next.

    `draw(count)` returns the first seeds of the phase.
    """

    def __init__(self, draw: Callable[[int], tuple[int, ...]], wanted: int, *, gated: bool) -> None:
        self.wanted = wanted
        self.gated = gated
        self.ungated = draw(wanted)
        self._candidates = draw(GATE_ATTEMPTS * wanted) if gated else self.ungated
        self._passed: dict[int, bool | None] = {}

    def __contains__(self, seed: int) -> bool:
        return seed in self._candidates

    def record(self, seed: int, passed: bool) -> None:
        """Note whether a seed's pretrained model passed the gate."""
        self._passed[seed] = passed

    def chosen(self) -> tuple[int, ...] | None:
        """Return the seeds to use, or None while the gate is undecided; fewer than wanted if too few pass."""
        if not self.gated:
            return self.ungated
        known = self._known()
        return known.chosen if known.settled else None

    def used(self) -> tuple[int, ...]:
        """Return the seeds that run whether they pass or not, and those that are known to pass."""
        return tuple(dict.fromkeys((*self.ungated, *(self.chosen() or ()))))

    def undecided(self) -> tuple[int, ...]:
        """Return the seeds whose pretrained model the gate needs to see."""
        return self._known().to_try if self.gated else ()

    def _known(self) -> GatedSeeds:
        return gated_seeds(self._candidates, self._passed, self.wanted)
