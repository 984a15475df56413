"""What the trials of one seed show at one rung, in order: a long search compares each with all others."""

import math
from bisect import bisect_right, insort
from collections import defaultdict


class Rung:
    """The values of a seed's proposals after the same epoch. `sign` makes the better value the greater one.

    With `batch`, a proposal is compared with those of earlier batches; without, with all others.
    """

    def __init__(self, sign: float, batch: int | None) -> None:
        self._sign = sign
        self._batch = batch
        self._ordered: list[float] = []
        self._by_batch: dict[int, dict[int, float]] = defaultdict(dict)

    def put(self, proposal: int, value: float) -> None:
        """Note what a proposal shows, in place of what it showed before."""
        values = self._by_batch[self._batch_of(proposal)]
        if proposal in values:
            self._ordered.remove(values[proposal])
        values[proposal] = -math.inf if math.isnan(value) else self._sign * value
        insort(self._ordered, values[proposal])

    def standing(self, proposal: int) -> tuple[int, int]:
        """Return how many of those that a proposal is compared with are better, and how many there are."""
        own = self._by_batch[self._batch_of(proposal)][proposal]
        better = len(self._ordered) - bisect_right(self._ordered, own)
        if self._batch is None:
            return better, len(self._ordered) - 1
        later = range(self._batch_of(proposal), max(self._by_batch) + 1)
        unseen = [value for batch in later for value in self._by_batch.get(batch, {}).values()]
        return better - sum(value > own for value in unseen), len(self._ordered) - len(unseen)

    def _batch_of(self, proposal: int) -> int:
        return 0 if self._batch is None else proposal // self._batch
