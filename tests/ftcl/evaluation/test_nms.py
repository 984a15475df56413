import numpy as np

from ftcl.evaluation import non_maximum_suppression


def keep(*rows, **options):
    """Rows of (start, end, score, group)."""
    start_s, end_s, score, group = np.array(rows, dtype=float).T
    return non_maximum_suppression(start_s, end_s, score, group.astype(int), **options).tolist()


def test_keeps_the_best_and_what_a_dropped_one_would_have_dropped():
    chain = [(0, 10, 0.9, 0), (4, 14, 0.8, 0), (8, 18, 0.7, 0)]
    assert keep(*chain, max_tiou=0.4) == [0, 2]


def test_an_overlap_equal_to_the_threshold_is_dropped():
    assert keep((0, 10, 0.9, 0), (0, 5, 0.8, 0), max_tiou=0.5) == [0]
    assert keep((0, 10, 0.9, 0), (0, 4.9, 0.8, 0), max_tiou=0.5) == [0, 1]


def test_groups_are_apart_and_come_in_order():
    assert keep((0, 10, 0.5, 1), (0, 10, 0.4, 0), (0, 10, 0.9, 1), max_tiou=0.5) == [1, 2]


def test_equal_scores_keep_the_first():
    assert keep((0, 10, 0.5, 0), (0, 9, 0.5, 0), max_tiou=0.5) == [0]


def test_the_added_second_drops_short_neighbours():
    # Apart by half a second: no overlap, but (0.5) / (2 + 2 - 0.5) with a second added everywhere.
    neighbours = [(0, 1, 0.9, 0), (1.5, 2.5, 0.8, 0)]
    assert keep(*neighbours, max_tiou=0.14) == [0, 1]
    assert keep(*neighbours, max_tiou=0.14, added_s=1.0) == [0]
    assert keep(*neighbours, max_tiou=0.15, added_s=1.0) == [0, 1]
    far = [(0, 1, 0.9, 0), (2.5, 3.5, 0.8, 0)]
    assert keep(*far, max_tiou=0.01, added_s=1.0) == [0, 1]


def test_nothing_to_suppress():
    empty = np.zeros(0)
    assert non_maximum_suppression(empty, empty, empty, empty.astype(int), max_tiou=0.5).tolist() == []
