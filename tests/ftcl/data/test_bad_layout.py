import pickle
import shutil
from collections.abc import Callable

import numpy as np
import pytest

from ftcl.data import DataError, cache_root, load_dataset
from tests.ftcl.data.folder import Layout


def set_segment(segment: list) -> Callable:
    return lambda layout: layout.database["j1"]["annotations"][1].update(segment=segment)


def save(array: np.ndarray) -> Callable:
    return lambda layout: layout.save("train/j1", array, allow_pickle=True)


def write_features(content: bytes) -> Callable:
    return lambda layout: (layout.folder / "train" / "j1.npy").write_bytes(content)


BAD_CONTENT = {
    "segment below 0": (set_segment([-0.1, 1.0]), "gt.json: video j1 has a 'jump' from -0.1 s to 1.0 s"),
    "segment without length": (set_segment([2.0, 2.0]), "video j1 has a 'jump' from 2.0 s to 2.0 s"),
    "segment that ends before": (set_segment([2.0, 1.0]), "end after its start"),
    "segment of NaN": (set_segment([float("nan"), 1.0]), "video j1"),
    "segment of three": (set_segment([1, 2, 3]), "ActivityNet form"),
    "no label": (lambda layout: layout.database["j1"]["annotations"][0].pop("label"), "'label'"),
    "no duration": (lambda layout: layout.database["j1"].pop("duration"), "'duration'"),
    "duration of 0": (lambda layout: layout.database["j1"].update(duration=0), "the duration of video j1"),
    "unannotated": (lambda layout: layout.database["j1"].update(annotations=[]), "video j1 has no segment"),
    "unknown video": (lambda layout: layout.database.pop("j1"), "video j1 of .*split_train.txt is missing"),
    "two splits": (lambda layout: layout.splits["test"].append("j1"), "video j1 is on two splits"),
    "listed twice": (lambda layout: layout.splits["test"].append("t1"), "lists video t1 2 times"),
    "empty split": (lambda layout: layout.splits["test"].clear(), "split_test.txt lists no video"),
    "class of no training video": (
        lambda layout: layout.add("test", "t2", "swim"),
        "class 'swim' has no training video, yet video t2",
    ),
    "path for a name": (lambda layout: layout.add("test", "../test/t3", "run"), "cannot be the name"),
    "no features": (
        lambda layout: (layout.folder / "train" / "j1.npy").unlink(),
        "video j1 has no feature file .*j1.npy; extract",
    ),
    "no folder": (lambda layout: shutil.rmtree(layout.folder / "test"), "feature folder .*test is missing"),
    "empty features": (save(np.empty((0, 3), dtype=np.float32)), "j1.npy is empty"),
    "features of one dimension": (save(np.ones(3, dtype=np.float32)), r"j1.npy holds .* shape \(3,\)"),
    "other width": (save(np.ones((5, 4), dtype=np.float32)), "j1 has 4 channels, not 3, in .*j1.npy"),
    "NaN": (save(np.array([[1, 2, np.nan]], dtype=np.float32)), "j1.npy holds NaN"),
    "infinite": (save(np.array([[1, 2, np.inf]], dtype=np.float32)), "j1.npy holds values that are infinite"),
    "too large for float32": (save(np.array([[1, 2, 1e99]])), "infinite as float32"),
    "integers": (save(np.ones((5, 3), dtype=np.int64)), "j1.npy does not hold .* floating-point"),
    "object array": (save(np.array([[1, None, 2]], dtype=object)), "j1.npy cannot be read .* pickle"),
    "bare pickle": (write_features(pickle.dumps(np.ones((5, 3)))), "j1.npy cannot be read .* pickle"),
    "empty file": (write_features(b""), "j1.npy cannot be read"),
}


@pytest.mark.parametrize(("change", "said"), BAD_CONTENT.values(), ids=BAD_CONTENT)
def test_bad_content_is_named(layout: Layout, change: Callable, said: str) -> None:
    change(layout)
    with pytest.raises(DataError, match=said):
        load_dataset(layout.write())


@pytest.mark.situation("input", "gt.json or a split list is missing", "nothing starts; the file is named")
@pytest.mark.parametrize("file", ["gt.json", "split_train.txt", "split_test.txt"])
def test_missing_files_are_named(layout: Layout, file: str) -> None:
    spec = layout.write()
    (layout.folder / file).unlink()
    with pytest.raises(DataError, match=file):
        load_dataset(spec)


@pytest.mark.situation(
    "input",
    "gt.json is not JSON, or of another form",
    "nothing starts; the file is named with what is wrong in it",
)
@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"database": [1]}'])
def test_annotations_of_another_form(layout: Layout, content: str) -> None:
    spec = layout.write()
    (layout.folder / "gt.json").write_text(content)
    with pytest.raises(DataError, match=r"gt\.json"):
        load_dataset(spec)


@pytest.mark.situation(
    "input", "several feature files hold NaN", "nothing starts; one file is named and the others are counted"
)
def test_several_problems_of_one_kind_are_counted(layout: Layout) -> None:
    for name in ("r0", "r3", "j4"):
        layout.save(f"train/{name}", np.full((2, 3), np.nan, dtype=np.float32))
    with pytest.raises(DataError, match=r"r0.npy holds NaN \(and 2 more like it\)"):
        load_dataset(layout.write())
    assert list(cache_root().rglob("*")) == []
