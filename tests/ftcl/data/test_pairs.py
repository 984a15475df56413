from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftcl.data import DataError
from ftcl.data.pairs import Pairs, sample_pairs

LABELS = [(0,), (1,), (0, 1), (0,), (1, 0), (2,), (0,)]
POSITIVE = {(0, 3), (0, 6), (2, 4), (3, 6)}
label_lists = st.lists(st.frozensets(st.integers(0, 3), min_size=1, max_size=2), min_size=2, max_size=12)


def draw(labels: list, seed: int = 0, num_pairs: int | None = None, **options: bool) -> Pairs:
    generator = torch.Generator().manual_seed(seed)
    return sample_pairs(labels, generator, num_pairs=num_pairs, **options)


def rows(pairs: torch.Tensor) -> list[tuple[int, ...]]:
    return [tuple(row) for row in pairs.tolist()]


def test_all_positive_pairs_and_as_many_negative_ones() -> None:
    pairs = draw(LABELS)
    assert set(rows(pairs.positive)) == POSITIVE and len(pairs.positive) == len(POSITIVE)
    assert len(set(rows(pairs.negative))) == len(pairs.negative) == len(POSITIVE)


def test_every_negative_pair_is_drawn_with_equal_chance() -> None:
    negative = {(i, j) for i, j in combinations(range(7), 2) if not set(LABELS[i]) & set(LABELS[j])}
    drawn = [row for seed in range(1000) for row in rows(draw(LABELS, seed).negative)]
    assert set(drawn) == negative
    shares = [drawn.count(pair) / len(drawn) for pair in negative]
    assert max(shares) - min(shares) < 0.05


@given(label_lists, st.one_of(st.none(), st.integers(0, 30)), st.integers(0, 99))
def test_kinds_and_counts_hold_for_any_labels(
    labels: list[frozenset[int]], num_pairs: int | None, seed: int
) -> None:
    equal = [(i, j) for i, j in combinations(range(len(labels)), 2) if labels[i] == labels[j]]
    disjoint = [(i, j) for i, j in combinations(range(len(labels)), 2) if not labels[i] & labels[j]]
    if not equal and not disjoint:
        with pytest.raises(DataError, match="no pair"):
            draw(labels, seed, num_pairs)
        return
    for random in (False, True):
        pairs = draw(labels, seed, num_pairs, labels_random=random)
        for drawn, kind in ((rows(pairs.positive), equal), (rows(pairs.negative), disjoint)):
            possible = list(combinations(range(len(labels)), 2)) if random else kind
            assert set(drawn) <= set(possible)
            if not kind:
                assert drawn == []
            elif num_pairs is not None:
                assert len(drawn) == num_pairs
            elif equal:
                assert len(drawn) == len(equal)
            else:
                assert len(drawn) == min(len(disjoint), len(labels))
            if len(drawn) <= len(possible):
                assert len(set(drawn)) == len(drawn)
        assert pairs.positive.shape[1] == pairs.negative.shape[1] == 2
        assert pairs.positive.dtype == pairs.negative.dtype == torch.int64


def test_positive_pairs_may_outnumber_negative_ones() -> None:
    pairs = draw([(0,)] * 8 + [(1,)])
    assert len(pairs.positive) == len(pairs.negative) == 28
    assert set(rows(pairs.negative)) <= {(i, 8) for i in range(8)}


def test_random_pairs_ignore_the_labels() -> None:
    drawn = [row for seed in range(500) for row in rows(draw(LABELS, seed, labels_random=True).positive)]
    assert set(drawn) == set(combinations(range(7), 2))


def test_pairs_follow_the_generator() -> None:
    labels = [(index % 5,) for index in range(50)]
    assert torch.equal(draw(labels, 3).negative, draw(labels, 3).negative)
    assert not torch.equal(draw(labels, 3).negative, draw(labels, 4).negative)
