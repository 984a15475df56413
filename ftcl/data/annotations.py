"""Annotations in the ActivityNet format (`gt.json`) and lists of videos (`split_<split>.txt`)."""

import json
import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftcl.data.videos import DataError, Segment


@dataclass(frozen=True)
class Annotation:
    """What `gt.json` says of one video."""

    duration_s: float
    segments: tuple[Segment, ...]

    @property
    def label_names(self) -> frozenset[str]:
        return frozenset(segment.label for segment in self.segments)


def raise_first(problems: Sequence[str], fix: str) -> None:
    """Raise a DataError that tells the first of several problems of one kind, their number, and the fix."""
    if problems:
        others = f" (and {len(problems) - 1} more like it)" if len(problems) > 1 else ""
        raise DataError(f"{problems[0]}{others}; {fix}")


def read_text(path: Path, what: str) -> str:
    """Return a text file of the data set, `what` saying in an error which part it is."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read {what}, {path}: {error}; put a UTF-8 text file there") from error


def read_annotations(path: Path) -> dict[str, Annotation]:
    """Read `gt.json`: {"database": {video: {"duration", "annotations": [{"segment": [s, e], "label"}]}}}.

    Raises DataError for a missing or malformed file, and for a segment that starts below 0 or does not end
    after its start. Segments that end after their video are kept: the published annotations have some.
    """
    try:
        database = json.loads(read_text(path, "the annotations"))["database"]
        annotations = {name: _annotation(entry) for name, entry in database.items()}
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is not valid JSON: {error}; restore the file") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path} does not have the ActivityNet form ({type(error).__name__}: {error}); it needs "
            '{"database": {video: {"duration": seconds, "annotations": [{"segment": [start, end], '
            '"label": name}]}}}'
        ) from error
    raise_first(
        [
            f"{path}: the duration of video {name} is {annotation.duration_s} s"
            for name, annotation in annotations.items()
            if not (math.isfinite(annotation.duration_s) and annotation.duration_s > 0)
        ],
        "give the length of the video in seconds",
    )
    raise_first(
        [
            f"{path}: video {name} has a {segment.label!r} from {segment.start_s} s to {segment.end_s} s"
            for name, annotation in annotations.items()
            for segment in annotation.segments
            if not 0 <= segment.start_s < segment.end_s < math.inf
        ],
        "a segment must start at 0 or later and end after its start: correct or remove it",
    )
    return annotations


def _annotation(entry: Mapping) -> Annotation:
    segments = []
    for item in entry["annotations"]:
        start_s, end_s = item["segment"]
        if not (isinstance(item["label"], str) and item["label"]):
            raise TypeError(f"the label {item['label']!r} is not a name")
        segments.append(Segment(float(start_s), float(end_s), item["label"]))
    return Annotation(float(entry["duration"]), tuple(segments))


def warn_of_late_segments(path: Path, annotations: Mapping[str, Annotation], used: Iterable[str]) -> None:
    """Warn once, with their numbers, of segments that end after their video."""
    late = {
        name: sum(segment.end_s > annotation.duration_s for segment in annotation.segments)
        for name, annotation in annotations.items()
    }
    total = sum(late.values())
    if total:
        in_splits = sum(late[name] for name in used)
        warnings.warn(
            f"{path}: {total} segments end after their video ({in_splits} of them in videos of the splits); "
            "they are kept as annotated",
            stacklevel=2,
        )


def read_splits(folder: Path, annotations: Mapping[str, Annotation]) -> dict[str, tuple[str, ...]]:
    """Read `split_train.txt`, `split_test.txt` and, if it is there, `split_validation.txt`: a name a line.

    Raises DataError for a missing, empty or repeated entry, a video on two splits, and a video that
    `gt.json` does not know.
    """
    splits: dict[str, tuple[str, ...]] = {}
    split_of: dict[str, str] = {}
    for split in ("train", "validation", "test"):
        path = folder / f"split_{split}.txt"
        if split == "validation" and not path.exists():
            continue
        lines = read_text(path, f"the list of the {split} videos").splitlines()
        names = tuple(line.strip() for line in lines if line.strip())
        if not names:
            raise DataError(f"{path} lists no video; write the name of a video on each line")
        raise_first(
            [
                f"{path} lists video {name} {count} times"
                for name, count in Counter(names).items()
                if count > 1
            ],
            "list every video once",
        )
        raise_first(
            [
                f"{folder}: video {name} is on two splits, {split_of[name]} and {split}"
                for name in names
                if name in split_of
            ],
            "remove it from one of their split_<split>.txt files",
        )
        raise_first(
            [f"video {name} of {path} is missing from gt.json" for name in names if name not in annotations],
            "add its annotations or remove the line",
        )
        # A name becomes part of a path: it must not lead out of the folder of the data set.
        raise_first(
            [f"{path}: {name!r} cannot be the name of a file" for name in names if Path(name).name != name],
            "write names of videos, not paths",
        )
        splits[split] = names
        split_of.update(dict.fromkeys(names, split))
    return splits


def read_classes(
    path: Path,
    annotations: Mapping[str, Annotation],
    splits: Mapping[str, Sequence[str]],
    known: tuple[str, ...] | None,
) -> tuple[str, ...]:
    """Return the action classes: `known` in its order, or else the labels of the split videos, sorted.

    Raises DataError for a label that is not known, for a training video without labels, and for a class of a
    split video that no training video shows.
    """
    in_train = frozenset().union(*(annotations[name].label_names for name in splits["train"]))
    witness = {
        label: name
        for names in splits.values()
        for name in names
        for label in sorted(annotations[name].label_names)
    }
    classes = known or tuple(sorted(witness))
    raise_first(
        [
            f"{path}: video {name} has the unknown label {label!r}"
            for label, name in witness.items()
            if label not in classes
        ],
        f"the classes are {', '.join(classes)}: correct or remove these segments",
    )
    raise_first(
        [
            f"{path}: training video {name} has no segment"
            for name in splits["train"]
            if not annotations[name].segments
        ],
        "training needs the labels of a video: annotate it or remove it from split_train.txt",
    )
    raise_first(
        [
            f"class {label!r} has no training video, yet video {name} shows it ({path})"
            for label, name in sorted(witness.items())
            if label not in in_train
        ],
        "add a training video of the class to split_train.txt or remove the class",
    )
    return classes


def hold_out_validation(
    label_sets: Mapping[str, frozenset[str]], seed: int, fraction: float = 0.2
) -> tuple[str, ...]:
    """Choose the validation videos among training videos, stratified by class, in the order of `label_sets`.

    A video belongs to the stratum of its rarest class. Each stratum is shuffled and spread evenly over
    [0, 1); the first `fraction` of all videos by that position are held out, so every stratum gives its
    share to within one video. A class that would lose its last training video takes one back.
    """
    rng = np.random.default_rng(seed)
    num_videos_of = Counter(label for labels in label_sets.values() for label in labels)
    strata: dict[str, list[str]] = {}
    for name, labels in label_sets.items():
        rarest = min(labels, key=lambda label: (num_videos_of[label], label))
        strata.setdefault(rarest, []).append(name)
    position = {}
    for label in sorted(strata):
        order = rng.permutation(len(strata[label]))
        for rank, index in enumerate(order):
            position[strata[label][index]] = (rank + rng.random()) / len(order)
    wanted = max(1, round(fraction * len(label_sets)))
    held_out = set(sorted(position, key=position.__getitem__)[:wanted])
    for label in sorted(num_videos_of):
        of_class = [name for name, labels in label_sets.items() if label in labels]
        if held_out.issuperset(of_class):
            held_out.remove(of_class[0])
    return tuple(name for name in label_sets if name in held_out)
