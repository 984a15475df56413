"""Write composed videos as a folder of the ACM-Net layout, so that they are read like any other data."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftcl.data.videos import SPLITS, Segment


@dataclass(frozen=True)
class ComposedVideo:
    """A video that was put together here: its features are (T snippets, D channels)."""

    name: str
    split: str
    duration_s: float
    segments: tuple[Segment, ...]
    features_TD: np.ndarray


def write_layout(folder: Path, videos: Iterable[ComposedVideo], meta: Mapping[str, object]) -> None:
    """Write `gt.json`, the split files, the features of every split, and `meta.json` into an empty folder."""
    names: dict[str, list[str]] = {split: [] for split in SPLITS}
    database = {}
    for split in SPLITS:
        (folder / split).mkdir()
    for video in videos:
        names[video.split].append(video.name)
        np.save(folder / video.split / f"{video.name}.npy", video.features_TD.astype(np.float32))
        database[video.name] = {
            "duration": video.duration_s,
            "subset": video.split,
            "annotations": [
                {"segment": [segment.start_s, segment.end_s], "label": segment.label}
                for segment in video.segments
            ],
        }
    for split in SPLITS:
        (folder / f"split_{split}.txt").write_text("".join(f"{name}\n" for name in names[split]))
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    (folder / "meta.json").write_text(json.dumps(meta, indent=1))
