"""Greedy non-maximum suppression of temporal segments."""

import numpy as np

from ftcl.evaluation.types import Floats, Ints


def non_maximum_suppression(
    start_s: Floats, end_s: Floats, score: Floats, group: Ints, *, max_tiou: float, added_s: float = 0.0
) -> Ints:
    """Indices of the segments to keep, by ascending group and descending score within a group.

    Within each group the best segment is kept (equal scores: the first), those that overlap it by
    tIoU >= `max_tiou` are dropped, and so on with the rest. `added_s` is added to every length and to every
    overlap before it is clipped at 0; 0 is the true tIoU, and 1 what much released detection code does, which
    inherited it from boxes measured in whole pixels.
    """
    order = np.lexsort((-score, group))
    start_s, end_s, group = start_s[order], end_s[order], group[order]
    length_s = end_s - start_s + added_s
    group_end = np.searchsorted(group, group, side="right").tolist()
    alive = np.ones(len(order), dtype=bool)
    for i in range(len(order)):
        if not alive[i]:
            continue
        rest = slice(i + 1, group_end[i])
        overlap_s = np.minimum(end_s[i], end_s[rest]) - np.maximum(start_s[i], start_s[rest]) + added_s
        overlap_s = np.maximum(overlap_s, 0.0)
        alive[rest] &= overlap_s / (length_s[i] + length_s[rest] - overlap_s) < max_tiou
    return order[alive]
