"""Snippets of a split's videos as batches on a device.

Shapes: V videos of the split, B videos of a batch, S sampled snippets, T snippets, N snippets of all videos,
D feature channels, C action classes.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ftcl.data import VideoDataset
from ftcl.data.sampling import test_indices, train_indices

# A split of at most so many bytes is held in the device's memory; a larger one is read from its files at
# every use. They are memory-mapped: on a CPU all trials of a machine share one copy, so a small one is held.
_RESIDENT_BYTES_CPU = 64 * 2**20
_RESIDENT_BYTES_GPU = 2 * 2**30
# Values in one batch of evaluation, which bounds its memory.
_BATCH_VALUES = 16 * 2**20


def is_resident(data: VideoDataset, names: Sequence[str], device: torch.device) -> bool:
    """Whether the features of these videos are held in the memory of the device."""
    num_bytes = 4 * data.num_features * sum(data.videos[name].num_snippets for name in names)
    return num_bytes <= (_RESIDENT_BYTES_CPU if device.type == "cpu" else _RESIDENT_BYTES_GPU)


class TrainSnippets:
    """The training videos: their labels, and batches of randomly sampled snippets."""

    def __init__(self, data: VideoDataset, device: torch.device) -> None:
        self.names = data.splits["train"]
        self.lengths = [data.videos[name].num_snippets for name in self.names]
        self.label_sets = [data.videos[name].labels for name in self.names]
        labels_VC = torch.zeros(len(self.names), len(data.classes))
        for row, labels in enumerate(self.label_sets):
            labels_VC[row, list(labels)] = 1.0
        self.labels_VC = labels_VC.to(device)
        self._data = data
        self._device = device
        self._is_resident = is_resident(data, self.names, device)
        self._offset_V1 = torch.tensor([0, *self.lengths[:-1]]).cumsum(0)[:, None]

    def sample(self, num_snippets: int, generator: torch.Generator) -> Tensor:
        """Draw the snippets of every video, (V, S)."""
        return torch.stack([train_indices(length, num_snippets, generator) for length in self.lengths])

    def batch(self, video_B: Tensor, index_VS: Tensor) -> Tensor:
        """Features of the sampled snippets of some videos, (B, S, D)."""
        if self._is_resident:
            rows_BS = index_VS[video_B] + self._offset_V1[video_B]
            gathered = self._resident_ND.index_select(0, rows_BS.flatten().to(self._device))
            return gathered.view(*rows_BS.shape, -1)
        videos = video_B.tolist()
        features_BSD = np.stack([self._data.features(self.names[v])[index_VS[v].numpy()] for v in videos])
        return torch.from_numpy(features_BSD).to(self._device)

    @cached_property
    def _resident_ND(self) -> Tensor:
        # Read at the first batch: a stage that only evaluates needs no training features.
        stacked_ND = np.concatenate([self._data.features(name) for name in self.names])
        return torch.from_numpy(stacked_ND).to(self._device)


class EvaluationBatch(NamedTuple):
    """Videos with equally many sampled snippets."""

    names: tuple[str, ...]
    x_BTD: Tensor


class EvaluationSnippets:
    """The videos of a split as evaluation samples them, in batches of equal length."""

    def __init__(self, data: VideoDataset, split: str, num_snippets: int, device: torch.device) -> None:
        self.names = data.splits[split]
        self._data = data
        self._device = device
        self._index = {
            name: test_indices(data.videos[name].num_snippets, num_snippets) for name in self.names
        }
        self._resident: list[EvaluationBatch] | None = None
        if is_resident(data, self.names, device):
            self._resident = list(self._read())

    def __iter__(self) -> Iterator[EvaluationBatch]:
        return iter(self._resident) if self._resident is not None else self._read()

    def _read(self) -> Iterator[EvaluationBatch]:
        by_length: dict[int, list[str]] = {}
        for name in self.names:
            by_length.setdefault(len(self._index[name]), []).append(name)
        for length, names in by_length.items():
            size = max(_BATCH_VALUES // (length * self._data.num_features), 1)
            for start in range(0, len(names), size):
                part = tuple(names[start : start + size])
                features_BTD = np.stack(
                    [self._data.features(name)[self._index[name].numpy()] for name in part]
                )
                yield EvaluationBatch(part, torch.from_numpy(features_BTD).to(self._device))
