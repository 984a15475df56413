import json
from pathlib import Path

import numpy as np
import pytest

from ftcl.data import VideoDataset, load_dataset


def instances(data: VideoDataset) -> tuple[list[np.ndarray], np.ndarray]:
    """The snippets of every instance of the data set, and its class."""
    cuts, labels = [], []
    for video in data.videos.values():
        for segment in video.segments:
            start, stop = round(segment.start_s / data.snippet_s), round(segment.end_s / data.snippet_s)
            cuts.append(data.features(video.name)[start:stop])
            labels.append(data.classes.index(segment.label))
    return cuts, np.array(labels)


def nearest_mean_accuracy(x: np.ndarray, labels: np.ndarray, in_train: np.ndarray) -> float:
    classes = np.unique(labels)
    means = np.stack([x[in_train & (labels == c)].mean(axis=0) for c in classes])
    distance = np.linalg.norm(x[~in_train, None] - means, axis=2)
    return float((classes[distance.argmin(axis=1)] == labels[~in_train]).mean())


def test_classes_differ_in_the_order_of_their_parts_only() -> None:
    pooled, ordered, labels = [], [], []
    for seed in range(4):
        cuts, of_seed = instances(load_dataset("synthetic", seed=seed))
        # Another seed has other parts: centre and compare within a seed.
        pooled_x = np.stack([cut.mean(axis=0) for cut in cuts])
        thirds = [np.concatenate([third.mean(axis=0) for third in np.split(cut, 3)]) for cut in cuts]
        in_train = np.arange(len(cuts)) % 2 == 0
        pooled.append(nearest_mean_accuracy(pooled_x, of_seed, in_train))
        ordered.append(nearest_mean_accuracy(np.stack(thirds), of_seed, in_train))
        labels.append(of_seed)
    assert min(ordered) == 1.0
    assert np.mean(pooled) < 0.45  # chance is 1/3
    assert all(np.unique(of_seed).size == 3 for of_seed in labels)


def test_size_and_determinism(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = load_dataset("synthetic")
    assert {split: len(names) for split, names in data.splits.items()} == {
        "train": 24,
        "validation": 8,
        "test": 12,
    }
    assert data.num_features == 16
    assert all(36 <= video.num_snippets <= 44 for video in data.videos.values())
    assert all(len(video.segments) == 2 for video in data.videos.values())
    for video in data.videos.values():
        assert video.duration_s == video.num_snippets * data.snippet_s
        assert video.segments[-1].end_s < video.duration_s
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_dataset("synthetic").fingerprint == data.fingerprint
    assert load_dataset("synthetic", seed=1).fingerprint != data.fingerprint
    meta = json.loads(next(tmp_path.glob("ftcl/synthetic-*/meta.json")).read_text())
    assert meta["data"] == "synthetic"
