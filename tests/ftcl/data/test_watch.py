import json
import pickle
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ftcl.data import DataError, VideoDataset, cache_root, load_dataset, watch

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def data(shared_cache: pytest.MonkeyPatch) -> VideoDataset:
    return load_dataset("watch")


def snippet_labels(data: VideoDataset, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All snippets of a split and the class at the centre of each, background last."""
    features, labels = [], []
    for video in data.ground_truth(split):
        centre_s = (np.arange(video.num_snippets) + 0.5) * data.snippet_s
        label_T = np.full(video.num_snippets, len(data.classes))
        for segment in video.segments:
            inside = (segment.start_s <= centre_s) & (centre_s < segment.end_s)
            label_T[inside] = data.classes.index(segment.label)
        features.append(data.features(video.name))
        labels.append(label_T)
    return np.concatenate(features), np.concatenate(labels)


def test_sessions_keep_the_limits_of_the_recipe(data: VideoDataset) -> None:
    assert {split: len(names) for split, names in data.splits.items()} == watch.NUM_SESSIONS
    assert (data.classes, data.num_features) == (("ABD", "ER", "FEL", "IR", "TRAP"), 70)
    assert data.snippet_s == 0.32
    for video in data.videos.values():
        assert (video.duration_s, video.num_snippets) == (32.0, 100)
        assert 2 <= len(video.segments) <= 4
        assert len(video.labels) in (1, 2)
        bounds = [0.0, *(t for s in video.segments for t in (s.start_s, s.end_s)), 32.0]
        lengths_s = np.diff(bounds)
        assert lengths_s[0::2].min() >= 1 - 1e-9
        assert lengths_s[1::2].min() >= 3 - 1e-9 and lengths_s[1::2].max() <= 8 + 1e-9
        assert 0.30 <= lengths_s[1::2].sum() / 32 <= 0.65
    two_classes = np.mean([len(video.labels) == 2 for video in data.videos.values()])
    assert 0.2 < two_classes < 0.4


def test_every_class_is_trained_and_tested(data: VideoDataset) -> None:
    for split, at_least in (("train", 19), ("validation", 4), ("test", 14)):
        counts = Counter(label for video in data.ground_truth(split) for label in video.labels)
        assert len(counts) == 5 and min(counts.values()) >= at_least


def test_features_are_normalised_on_the_training_sessions(data: VideoDataset) -> None:
    x_train, _ = snippet_labels(data, "train")
    x_test, _ = snippet_labels(data, "test")
    assert np.abs(x_train).max() == np.abs(x_test).max() == 5
    # Clipping moves the moments a little.
    assert np.abs(x_train.mean(axis=0)).max() < 0.1
    assert np.abs(x_train.std(axis=0) - 1).max() < 0.15


def test_actions_are_recognisable_in_people_never_seen(data: VideoDataset) -> None:
    x_train, y_train = snippet_labels(data, "train")
    x_test, y_test = snippet_labels(data, "test")
    model = LogisticRegression(C=0.1, max_iter=200).fit(x_train, y_train)
    assert np.mean(y_test == len(data.classes)) < 0.55
    assert model.score(x_test, y_test) > 0.75


def test_nobody_is_on_two_splits_of_any_fold() -> None:
    validates, tests = Counter(), Counter()
    for fold in range(watch.NUM_FOLDS):
        people = watch.people_of_split(fold)
        assert sorted(sum(people.values(), ())) == list(range(1, 11))
        validates.update(people["validation"])
        tests.update(people["test"])
    assert set(validates.values()) == {1} and set(tests.values()) == {3}
    assert watch.people_of_split(0) == {"train": (5, 7, 3, 8, 4, 6), "validation": (10,), "test": (1, 9, 2)}


def test_folds_and_seeds_compose_other_sessions(data: VideoDataset) -> None:
    again = load_dataset("watch")  # in the cache of this test, so built anew
    assert again.fingerprint == data.fingerprint
    assert load_dataset("watch", seed=1).fingerprint != data.fingerprint
    fold = load_dataset("watch", fold=3)
    assert fold.fingerprint != data.fingerprint
    worn = {
        split: {int(name.split("person")[1][:2]) for name in names} for split, names in fold.splits.items()
    }
    assert worn == {split: set(people) for split, people in watch.people_of_split(3).items()}
    folders = [json.loads((path / "meta.json").read_text()) for path in cache_root().glob("watch-*")]
    assert sorted((meta["fold"], meta["seed"]) for meta in folders) == [(0, 0), (0, 1), (3, 0)]


def test_every_session_shows_both_background_exercises() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        pieces = watch.draw_pieces("IR", rng)
        assert [piece.start for piece in pieces] == [0, *(piece.stop for piece in pieces[:-1])]
        assert pieces[-1].stop == 1600
        assert {piece.label for piece in pieces[0::2]} == set(watch.BACKGROUND)
        assert "IR" in {piece.label for piece in pieces[1::2]} <= set(watch.CLASSES)


def test_pieces_are_cross_faded_over_a_fifth_of_a_second() -> None:
    pieces = (watch.Piece("PEN", 0, 60), watch.Piece("IR", 60, 220), watch.Piece("ROW", 220, 300))
    level = {"PEN": -1.0, "IR": 1.0, "ROW": 3.0}
    recordings = {label: np.full((400, 6), value) for label, value in level.items()}
    signal_NK = watch.join_pieces(recordings, pieces, np.random.default_rng(0))
    assert signal_NK.shape == (300, 6)
    for piece in pieces:
        inner = signal_NK[max(0, piece.start + 5) if piece.start else 0 : piece.stop - 5]
        assert np.allclose(inner, level[piece.label])
    assert np.allclose(signal_NK[295:], 3.0)
    assert np.allclose(np.diff(signal_NK[55:65], axis=0), 0.2)


def test_recordings_of_one_side_are_mirrored_onto_the_other() -> None:
    recordings = watch.read_recordings()
    assert len(recordings) == 140
    for side in (0, 1):
        of_side = np.concatenate([x for (_, worn, _), x in recordings.items() if worn == side])
        assert 0.4 < of_side[:, 0].mean() < 0.7  # gravity along the forearm


class Touch:
    """Unpickling this creates the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.situation(
    "environment",
    "the installed seglearn ships another file than the known one",
    "it is never unpickled; the message names file and version",
)
def test_a_changed_source_is_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "seglearn" / "data" / "watch_dataset.npy"
    source.parent.mkdir(parents=True)
    (tmp_path / "seglearn" / "__init__.py").touch()
    source.write_bytes(pickle.dumps(Touch(tmp_path / "ran")))
    monkeypatch.delitem(sys.modules, "seglearn", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=r"watch_dataset\.npy is not the file of seglearn 1\.2\.5"):
        load_dataset("watch")
    assert not (tmp_path / "ran").exists()
    assert list(cache_root().iterdir()) == []


@pytest.mark.situation(
    "environment",
    "eight processes build the bundled data at once",
    "all use the same data, and one copy stays",
)
def test_eight_processes_build_it_at_once(data: VideoDataset, cache_home: Path) -> None:
    program = (
        "import pathlib, sys, time; from ftcl.data import load_dataset\n"
        f"pathlib.Path({str(cache_home)!r}, sys.argv[1]).touch()\n"
        f"while not pathlib.Path({str(cache_home)!r}, 'go').exists(): time.sleep(0.001)\n"
        "print(load_dataset('watch').fingerprint)"
    )
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(i)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for i in range(8)
    ]
    while sum((cache_home / str(i)).exists() for i in range(8)) < 8:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)
    (cache_home / "go").touch()
    printed = [process.communicate(timeout=120)[0].strip() for process in processes]
    assert printed == [data.fingerprint] * 8
    left = sorted(path.name.split("-")[0] for path in cache_root().iterdir())
    assert left == ["verified", "watch"]


def test_data_need_no_torch() -> None:
    program = "import sys, ftcl.data; ftcl.data.load_dataset('synthetic'); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT).returncode == 0
