import json

import numpy as np
import pytest

from ftcl.evaluation import (
    Detections,
    read_detections,
    read_ground_truth,
    write_detections,
    write_ground_truth,
)

ANNOTATIONS = {
    "database": {
        "a": {"subset": "test", "duration": 30.5, "annotations": [{"segment": [1.25, 4], "label": "run"}]},
        "b": {"subset": "validation", "annotations": [{"segment": [0, 2], "label": "jump"}]},
        "c": {
            "subset": "test",
            "annotations": [{"segment": [2, 99], "label": "run"}, {"segment": [0, 1.5], "label": "walk"}],
        },
        "d": {"subset": "test", "duration": 3, "annotations": []},
    }
}


@pytest.fixture
def save(tmp_path):
    def save(content, name="file.json"):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return save


def test_ground_truth_of_a_subset(save):
    truth = read_ground_truth(save(ANNOTATIONS), "test")
    assert truth.videos == ("a", "c", "d")
    assert truth.classes == ("jump", "run", "walk")
    assert truth.video.tolist() == [0, 1, 1]
    assert truth.label.tolist() == [1, 1, 2]
    assert truth.start_s.tolist() == [1.25, 2, 0]
    assert truth.end_s.tolist() == [4, 99, 1.5]
    np.testing.assert_array_equal(truth.duration_s, [30.5, np.nan, 3])


def test_ground_truth_survives_a_round_trip(save, tmp_path):
    truth = read_ground_truth(save(ANNOTATIONS), "test")
    write_ground_truth(tmp_path / "again.json", truth, "held out")
    again = read_ground_truth(tmp_path / "again.json", "held out")
    assert again.videos == truth.videos
    assert again.classes == ("run", "walk")
    assert [again.classes[i] for i in again.label] == [truth.classes[i] for i in truth.label]
    for column in ("video", "start_s", "end_s", "duration_s"):
        np.testing.assert_array_equal(getattr(again, column), getattr(truth, column))


def test_detections_survive_a_round_trip(tmp_path):
    score = np.array([1 / 3, 0.1, -2.0])
    found = Detections(
        ("a", "empty", "c"),
        ("run", "walk"),
        np.array([0, 0, 2]),
        np.array([1, 0, 1]),
        score,
        score + 1,
        score,
    )
    write_detections(tmp_path / "found.json", found)
    again = read_detections(tmp_path / "found.json", found.classes)
    assert again.videos == found.videos
    for column in ("video", "label", "start_s", "end_s", "score"):
        np.testing.assert_array_equal(getattr(again, column), getattr(found, column))
    assert set(json.loads((tmp_path / "found.json").read_text())) == {"version", "results", "external_data"}


def test_detections_of_no_video(save):
    assert len(read_detections(save({"results": {}}), ("run",))) == 0


def database(**changes):
    annotation = {"segment": [0, 2], "label": "jump"}
    return {"database": {"vid": {"subset": "test", "annotations": [annotation], **changes}}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a JSON file"),
        ([], 'no "database"'),
        ({"results": {}}, 'no "database"'),
        ({"database": {"vid": 3}}, "'vid' must be an object"),
        ({"database": {"vid": {"annotations": []}}}, "'vid' has no \"subset\""),
        (database(subset="train"), "no video has subset 'test'; choose one of: train"),
        (
            database(annotations=[{"segment": [0, 2]}]),
            "'vid', annotation 0 must be an object with a \"label\"",
        ),
        (database(annotations=[{"label": "x", "segment": [3]}]), "'vid', annotation 0: \"segment\""),
        (database(annotations=[{"label": "x", "segment": [0, "2"]}]), "'vid', annotation 0: .*number.*'2'"),
        (database(annotations=[{"label": "x", "segment": [-1, 2]}]), "'vid', annotation 0: .*at 0 or later"),
        (database(annotations=[{"label": "x", "segment": [2, 2]}]), "'vid', annotation 0: .*end after"),
        (database(duration="long"), "'vid': \"duration\" must be a number"),
        (database(duration=True), "'vid': \"duration\" must be a number, got True"),
        (database(annotations=[{"label": "x", "segment": [False, 2]}]), "annotation 0: .*number, got False"),
        (database(annotations=[{"label": "x", "segment": [0, 10**400]}]), "annotation 0: .*fits a double"),
        pytest.param("[" * 100_000, "nested too deeply", id="nested"),
    ],
)
def test_malformed_ground_truth_names_the_place(save, content, message):
    path = save(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_ground_truth(path, "test")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("detection", "message"),
    [
        ("x", 'must be an object with a "label"'),
        ({"label": "swim", "segment": [0, 1], "score": 1}, "'swim' is not a class.*run, walk"),
        ({"label": "run", "segment": [0, 1]}, '"score" must be a number'),
        ({"label": "run", "segment": None, "score": 1}, '"segment" must be'),
        ({"label": "run", "segment": [0, 1], "score": True}, '"score" must be a number, got True'),
        ({"label": "run", "segment": [0, True], "score": 1}, '"segment" must be a number, got True'),
        ({"label": "run", "segment": [0, 1], "score": -(10**400)}, r'"score" .* got -1000\d*\.\.\.\d*$'),
        ({"label": "run", "segment": [0, float("nan")], "score": 1}, '"segment" must be finite'),
    ],
)
def test_malformed_detections_name_the_place(save, detection, message):
    good = {"label": "run", "segment": [0, 1], "score": 0.5}
    path = save({"results": {"vid": [good, detection]}})
    with pytest.raises(ValueError, match=message) as caught:
        read_detections(path, ("run", "walk"))
    assert f"{path}: video 'vid', detection 1" in str(caught.value)


def test_other_files_are_refused(save, tmp_path):
    with pytest.raises(ValueError, match='no "results"'):
        read_detections(save(ANNOTATIONS), ("run",))
    with pytest.raises(ValueError, match="'vid' must hold a list"):
        read_detections(save({"results": {"vid": {}}}), ("run",))
    with pytest.raises(ValueError, match=r"absent\.json: cannot be read"):
        read_detections(tmp_path / "absent.json", ("run",))
