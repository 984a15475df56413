"""A tiny data set whose classes differ only in the order of their parts.

An instance runs through the parts A, B and C, equally long, in the order that its class names. Parts, noise
and background are the same for all classes, so the mean over an instance, and everything else that ignores
order, says nothing of its class.

Shapes: T snippets of a video, D feature channels.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ftcl.data.cache import built_folder
from ftcl.data.videos import Segment
from ftcl.data.writer import ComposedVideo, write_layout

# Raise it with every change of what is built.
VERSION = 1
NUM_VIDEOS = {"train": 24, "validation": 8, "test": 12}
CLASSES = ("ABC", "CBA", "BAC")
NUM_FEATURES = 16
SNIPPET_S = 16 / 25

_NOISE_SD = 0.3
_PART_NORM = 3.0
_MIN_GAP = 2


def build(seed: int) -> Path:
    """Return the folder of this data seed, in the ACM-Net layout; build it if it is not cached."""
    inputs = {"data": "synthetic", "version": VERSION, "seed": seed}
    return built_folder("synthetic", inputs, lambda folder: write_layout(folder, _videos(seed), inputs))


def _videos(seed: int) -> Iterator[ComposedVideo]:
    rng = np.random.default_rng([VERSION, seed])
    basis, _ = np.linalg.qr(rng.normal(size=(NUM_FEATURES, 4)))
    means = dict(zip(("background", "A", "B", "C"), _PART_NORM * basis.T, strict=True))
    for split, count in NUM_VIDEOS.items():
        for index in range(count):
            yield _video(f"{split}_{index:02d}", split, CLASSES[index % len(CLASSES)], means, rng)


def _video(
    name: str, split: str, label: str, means: dict[str, np.ndarray], rng: np.random.Generator
) -> ComposedVideo:
    num_snippets = int(rng.integers(36, 45))
    lengths = 3 * rng.integers(2, 5, size=2)
    free = num_snippets - lengths.sum() - 3 * _MIN_GAP
    gaps = _MIN_GAP + rng.multinomial(free, np.full(3, 1 / 3))
    starts = (gaps[0], gaps[0] + lengths[0] + gaps[1])
    x_TD = np.tile(means["background"], (num_snippets, 1))
    for start, length in zip(starts, lengths, strict=True):
        x_TD[start : start + length] = np.repeat([means[part] for part in label], length // 3, axis=0)
    x_TD += _NOISE_SD * rng.normal(size=x_TD.shape)
    segments = tuple(
        Segment(float(start * SNIPPET_S), float((start + length) * SNIPPET_S), label)
        for start, length in zip(starts, lengths, strict=True)
    )
    return ComposedVideo(name, split, num_snippets * SNIPPET_S, segments, x_TD)
