"""Videos, their annotated segments, and a data set of them that is ready to train on.

Shapes: T snippets of a video, D feature channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

SPLITS = ("train", "validation", "test")


class DataError(ValueError):
    """The data cannot be used; the message names the file or the video, and what to change."""


@dataclass(frozen=True)
class Segment:
    """One action instance of a video, from `start_s` to `end_s` seconds."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True)
class Video:
    """One video: its length, its annotated segments, and the sorted ids of the classes in them."""

    name: str
    split: str
    duration_s: float
    num_snippets: int
    segments: tuple[Segment, ...]
    labels: tuple[int, ...]


@final
@dataclass(frozen=True)
class VideoDataset:
    """Videos with features and annotations, split into training, validation and test.

    `classes` holds the action classes only. `splits` lists the videos of a split in the order of its file.
    Only validation may be empty, after `load_dataset(..., hold_out=False)`. A snippet stands for `snippet_s`
    seconds. `fingerprint` is a hash of everything that can change a number: classes, splits, annotations, the
    bytes of the features, the fold and the data seed. `feature_files` holds the one file of a video, or its
    RGB file and its flow file.
    """

    spec: str
    preset: str
    classes: tuple[str, ...]
    splits: Mapping[str, tuple[str, ...]]
    videos: Mapping[str, Video]
    num_features: int
    snippet_s: float
    fingerprint: str
    feature_files: Mapping[str, tuple[Path, ...]]

    def features(self, name: str) -> np.ndarray:
        """Return the features of a video, (T, D) float32, read-only.

        One float32 file is memory-mapped, so that processes of a machine share its pages. RGB and flow files
        are read and joined along D, cut to the shorter of the two. Raises DataError for a file that is gone
        or has another shape than when the data set was opened.
        """
        num_snippets = self.videos[name].num_snippets
        streams = [_open(path) for path in self.feature_files[name]]
        shapes = [stream.shape for stream in streams]
        if (
            any(len(shape) != 2 for shape in shapes)
            or min(shape[0] for shape in shapes) != num_snippets
            or sum(shape[1] for shape in shapes) != self.num_features
        ):
            raise DataError(
                f"the features of video {name} have changed: {self.feature_files[name][0]} holds an array of "
                f"shape {shapes[0]}; restore the file"
            )
        if len(streams) == 1:
            features_TD = np.asarray(streams[0], dtype=np.float32)
        else:
            features_TD = np.concatenate([x[:num_snippets] for x in streams], axis=1, dtype=np.float32)
        features_TD.flags.writeable = False
        return features_TD

    def ground_truth(self, split: str) -> tuple[Video, ...]:
        """Return the videos of a split with their segments, in the order of the split."""
        if split not in self.splits:
            raise ValueError(f"unknown split {split!r}; the splits are {', '.join(self.splits)}")
        return tuple(self.videos[name] for name in self.splits[split])


def _open(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise DataError(f"the feature file {path} is gone; restore it") from error
    except (ValueError, EOFError, OSError) as error:
        raise DataError(f"the feature file {path} cannot be read any more ({error}); restore it") from error
