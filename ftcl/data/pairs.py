"""Pairs of videos for contrast: positive pairs share their classes, negative pairs share none."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ftcl.data.videos import DataError


class Pairs(NamedTuple):
    """Indices of videos (int64), the smaller first: `positive` (P, 2), `negative` (Q, 2)."""

    positive: Tensor
    negative: Tensor


def sample_pairs(
    labels: Sequence[Collection[int]],
    generator: torch.Generator,
    *,
    num_pairs: int | None,
    labels_random: bool = False,
) -> Pairs:
    """Draw pairs of videos by their label sets, `labels[i]` being the classes of video i.

    Positive: equal label sets. Negative: disjoint label sets. `num_pairs` asks for that many of each kind;
    None takes every positive pair and as many negative ones (as many as videos where no two videos agree).
    Pairs repeat only where a kind has fewer than wanted; a kind that does not exist gives (0, 2).
    `labels_random` keeps both counts but draws from all pairs of distinct videos: the control whose pairs
    know nothing of labels. Raises DataError if no pair of either kind exists. Source: FTCL, arXiv 2203.16800.
    """
    rng = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    groups: dict[frozenset[int], list[int]] = defaultdict(list)
    for index, of_video in enumerate(labels):
        groups[frozenset(of_video)].append(index)
    members = [np.array(group) for group in groups.values()]
    positive = _positive_pairs(members)
    blocks = _disjoint_groups(list(groups))
    num_negative = sum(len(members[a]) * len(members[b]) for a, b in blocks)
    if not len(positive) and not num_negative:
        raise DataError(
            f"no pair can be formed from {len(labels)} training videos: no two have equal label sets "
            "and no two have disjoint ones; add videos that share, or exclude, each other's classes"
        )
    wanted = num_pairs if num_pairs is not None else len(positive) or min(num_negative, len(labels))
    if labels_random:
        everything = len(labels) * (len(labels) - 1) // 2
        drawn = [
            _unordered_pairs(_choose(everything, wanted if exists else 0, rng), len(labels))
            for exists in (len(positive), num_negative)
        ]
        return Pairs(*map(torch.from_numpy, drawn))
    if num_pairs is not None:
        positive = positive[_choose(len(positive), num_pairs, rng)]
    negative = _negative_pairs(members, blocks, _choose(num_negative, wanted, rng))
    return Pairs(torch.from_numpy(positive), torch.from_numpy(negative))


def _choose(available: int, wanted: int, rng: np.random.Generator) -> np.ndarray:
    if not available:
        return np.empty(0, dtype=np.int64)
    return rng.choice(available, wanted, replace=wanted > available)


def _positive_pairs(members: list[np.ndarray]) -> np.ndarray:
    of_groups = [group[np.stack(np.triu_indices(len(group), k=1), axis=1)] for group in members]
    pairs = np.concatenate([np.empty((0, 2), dtype=np.int64), *of_groups])
    return pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]


def _disjoint_groups(label_sets: list[frozenset[int]]) -> list[tuple[int, int]]:
    return [
        (a, b)
        for a, first in enumerate(label_sets)
        for b, second in enumerate(label_sets[a + 1 :], start=a + 1)
        if first.isdisjoint(second)
    ]


def _negative_pairs(
    members: list[np.ndarray], blocks: list[tuple[int, int]], ranks: np.ndarray
) -> np.ndarray:
    """Return the negative pairs of these ranks, all of them counted block of groups by block of groups.

    Large data sets have tens of millions of negative pairs, so only those drawn are ever formed.
    """
    if not len(ranks):
        return np.empty((0, 2), dtype=np.int64)
    starts = np.cumsum([0] + [len(members[a]) * len(members[b]) for a, b in blocks])
    block_of_rank = np.searchsorted(starts, ranks, side="right") - 1
    pairs = np.empty((len(ranks), 2), dtype=np.int64)
    for row, (rank, block) in enumerate(zip(ranks, block_of_rank, strict=True)):
        first, second = (members[group] for group in blocks[block])
        i, j = divmod(rank - starts[block], len(second))
        pairs[row] = first[i], second[j]
    return np.sort(pairs, axis=1)


def _unordered_pairs(ranks: np.ndarray, num_videos: int) -> np.ndarray:
    """Return the pairs (i < j) of these ranks in the order (0, 1), (0, 2), ..., (1, 2), ..."""
    row_lengths = np.arange(num_videos - 1, 0, -1)
    starts = np.cumsum(row_lengths) - row_lengths
    i = np.searchsorted(starts, ranks, side="right") - 1
    return np.stack([i, ranks - starts[i] + i + 1], axis=1)
