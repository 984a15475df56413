"""What counts as the same, and how large a difference is."""

import math

import pyarrow as pa
import pytest
import torch
from rich.console import Console

from study.comparison import (
    Comparison,
    Difference,
    Part,
    compare_epochs,
    compare_metrics,
    compare_tables,
    compare_values,
    compare_weights,
    counted,
)


@pytest.mark.parametrize("value", [0.1, -0.0, math.nan, math.inf, 3, None, "run"])
def test_a_value_is_the_same_as_itself(value: object) -> None:
    assert compare_values("x", [(1, value, value)]) == []


def test_whole_numbers_are_the_floats_that_tables_make_of_them() -> None:
    assert compare_values("x", [(None, 2.0, 2)]) == []


@pytest.mark.parametrize(
    ("recorded", "now", "absolute", "relative"),
    [
        (2.0, 2.5, 0.5, 0.25),
        (0.1, 0.1 + 2**-56, 2**-56, pytest.approx(2**-56 / 0.1)),
        (0.0, -0.0, 0.0, math.inf),
        (0.0, 1.0, 1.0, math.inf),
        (math.nan, 1.0, math.inf, math.inf),
        (1.0, math.inf, math.inf, math.inf),
        ("run", "jump", None, None),
    ],
)
def test_size_of_a_difference(recorded: object, now: object, absolute: object, relative: object) -> None:
    (found,) = compare_values("x", [(None, recorded, now)])
    assert (found.count, found.absolute, found.relative) == (1, absolute, relative)


def test_differences_of_epochs_are_counted_from_the_first() -> None:
    recorded = {1: {"loss/a": 1.0, "loss/b": 1.0}, 2: {"loss/a": 2.0}, 3: {"loss/a": 4.0}}
    now = {1: {"loss/a": 1.0, "loss/b": 1.0}, 2: {"loss/a": 2.5}, 3: {"loss/a": 3.0}}
    assert compare_epochs(recorded, now) == [Difference("loss/a", 2, 1.0, 0.25, 2)]


def test_what_one_side_lacks_differs() -> None:
    assert compare_epochs({1: {"loss/a": 1.0}}, {}) == [
        Difference("loss/a", 1, None, None, 1, "on record, not now")
    ]
    assert compare_metrics({}, {"test/mAP": 1.0}) == [
        Difference("final test/mAP", words="now, not on record")
    ]


def test_tables_of_other_lengths_and_columns() -> None:
    table = pa.table({"video": ["a", "b"], "score": [0.5, 0.25]})
    assert compare_tables("detections", table, table) == []
    assert compare_tables("detections", table, table.slice(1))[0].words == "2 on record, 1 now"
    (found,) = compare_tables("detections", table, table.drop_columns(["score"]))
    assert (found.quantity, found.count, found.words) == ("score of the detections", 2, "on record, not now")


def test_weights() -> None:
    weights = {"a": torch.tensor([[1.0, 2.0], [0.0, 4.0]]), "b": torch.tensor([math.nan])}
    assert compare_weights(weights, {name: value.clone() for name, value in weights.items()}) == []
    other = {**weights, "a": torch.tensor([[1.0, 3.0], [0.0, 4.5]])}
    assert compare_weights(weights, other) == [Difference("exported weights", 2, 1.0, 0.5)]
    assert compare_weights(weights, {**weights, "b": torch.tensor([1.0])})[0].absolute == math.inf
    assert "b" in compare_weights(weights, {"a": weights["a"]})[0].words
    assert "a" in compare_weights(weights, {**weights, "a": torch.zeros(3)})[0].words


def test_largest_differences_are_shown_first_and_not_all() -> None:
    found = [Difference(f"loss/{size:02}", 1, float(size), float(size), 1) for size in range(40)]
    found.append(Difference("failure", words="none on record, [now]"))
    comparison = Comparison(
        (Part("trial 3", ["1 epoch × 40 values"], found),), ("torch: 1 on record, 2 now",)
    )
    console = Console(width=100)
    with console.capture() as capture:
        console.print(comparison.render())
    lines = [" ".join(line.split()) for line in capture.get().splitlines()]
    assert lines[:4] == [
        "unlike when the record was made:",
        "torch: 1 on record, 2 now",
        "trial 3",
        "these differ, of 1 epoch × 40 values:",
    ]
    assert lines[5] == "failure 1 · · · none on record, [now]"
    assert lines[6] == "loss/39 1 39 39 1"
    assert lines[-1] == "and 16 more, all smaller"


def test_counts_are_readable() -> None:
    assert [counted(number, "detection") for number in (0, 1, 1234)] == [
        "0 detections",
        "1 detection",
        "1 234 detections",
    ]
