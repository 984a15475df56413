"""Which data a launch takes, and what it says of those that it refuses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcl.data import DataError
from study.plan import LaunchError, Plan
from tests.study.pretended import acm_folder

MakePlan = Callable[..., Plan]


def test_small_data_set_in_the_published_layout_is_accepted(
    make_small_plan: MakePlan, tmp_path: Path
) -> None:
    plan = make_small_plan(data=f"acm:{acm_folder(tmp_path / 'data')}")
    assert plan.data.classes == ("Jump", "Run")
    assert not (tmp_path / "out").exists()


def test_reference_protocol_trains_on_all_training_videos(make_small_plan: MakePlan, tmp_path: Path) -> None:
    data = f"acm:{acm_folder(tmp_path / 'data')}"
    plan = make_small_plan(data=data, protocol="reference")
    assert len(plan.data.splits["train"]) == 8
    assert plan.goal.name == "test/mAP@0.1:0.7"
    gate = {"metric": "mAP@0.1:0.7", "at_least": 1.0}
    with pytest.raises(LaunchError, match="no validation videos"):
        make_small_plan(space={"gate": gate}, data=data, protocol="reference")


def break_features(value: Any) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "train" / "train_3.npy", value)


def break_split(folder: Path) -> None:
    (folder / "split_test.txt").write_text("test_0\ntrain_1\n")


def remove_features(folder: Path) -> None:
    (folder / "test" / "test_1.npy").unlink()


def damaged(damage: Callable[[Path], None], words: str, what: str) -> Any:
    then = "nothing starts; the video or its file is named"
    return pytest.param(damage, words, marks=pytest.mark.situation("input", what, then))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        damaged(
            break_features(np.full((12, 6), np.nan, np.float32)),
            "train_3",
            "a feature file holds NaN",
        ),
        damaged(break_features(np.zeros((0, 6), np.float32)), "train_3", "a feature file is empty"),
        damaged(
            break_features(np.ones((12, 5), np.float32)),
            "train_3",
            "a video's features have another width than the others'",
        ),
        damaged(
            break_features(np.array([{"a": 1}], dtype=object)),
            "train_3",
            "a feature file holds pickled objects, which could run code",
        ),
        damaged(break_split, "train_1", "a video is in two splits"),
        damaged(remove_features, "test_1", "the feature file of a video is missing"),
    ],
    ids=["nan", "empty", "width", "pickle", "two splits", "missing"],
)
def test_damaged_data_are_refused_and_nothing_is_left(
    make_small_plan: MakePlan, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    folder = acm_folder(tmp_path / "data")
    damage(folder)
    with pytest.raises(DataError, match=words):
        make_small_plan(data=f"acm:{folder}")
    assert not (tmp_path / "out").exists()


@pytest.mark.situation(
    "input",
    "an annotated segment ends before it starts, or starts before its video",
    "nothing starts; the video and the segment are named",
)
@pytest.mark.parametrize("segment", [[-1.0, 3.0], [3.0, 3.0], [4.0, 3.0]])
def test_impossible_segment_is_refused(
    make_small_plan: MakePlan, tmp_path: Path, segment: list[float]
) -> None:
    folder = acm_folder(tmp_path / "data", segment=segment)
    with pytest.raises(DataError, match="segment"):
        make_small_plan(data=f"acm:{folder}")


@pytest.mark.situation(
    "input", "the folder of the data does not exist", "nothing starts; the folder is named"
)
def test_missing_data_folder_is_named(make_small_plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        make_small_plan(data=f"acm:{tmp_path / 'nowhere'}")
