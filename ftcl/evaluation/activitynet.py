"""Ground truth and detections in the JSON formats of the ActivityNet challenge.

    ground truth  {"database": {video: {"subset", "duration", "annotations": [{"segment": [s, e], "label"}]}}}
    detections    {"version", "results": {video: [{"label", "segment": [s, e], "score"}]}, "external_data"}

Times are seconds. Other keys are ignored.
"""

import json
import math
import reprlib
from pathlib import Path
from typing import Any

import numpy as np

from ftcl.evaluation.types import Detections, GroundTruth
from ftcl.files import atomic_write


def read_ground_truth(path: Path, subset: str) -> GroundTruth:
    """The annotations of the videos whose "subset" is `subset`.

    `classes` are the sorted labels of the whole file: a label that only another subset uses is known.
    Raises ValueError with the file, the video and the fix for anything that is not as the format says, for a
    segment that starts below 0 or does not end after its start, and for a subset that no video has.
    """
    database = _section(path, _load(path), "database")
    classes: set[str] = set()
    subsets: set[str] = set()
    videos: list[str] = []
    duration_s: list[float] = []
    rows: list[tuple[int, str, float, float]] = []
    for video, entry in database.items():
        place = f"{path}: video {video!r}"
        if not isinstance(entry, dict) or not isinstance(entry.get("annotations"), list):
            raise ValueError(f'{place} must be an object with "subset" and a list "annotations"')
        if not isinstance(entry.get("subset"), str):
            raise ValueError(f'{place} has no "subset"; name the subset that it belongs to')
        subsets.add(entry["subset"])
        annotations = entry["annotations"]
        labels = [_label(f"{place}, annotation {i}", item) for i, item in enumerate(annotations)]
        classes.update(labels)
        if entry["subset"] != subset:
            continue
        for i, (annotation, label) in enumerate(zip(annotations, labels, strict=True)):
            start_s, end_s = _segment(f"{place}, annotation {i}", annotation)
            if start_s < 0 or end_s <= start_s:
                raise ValueError(
                    f"{place}, annotation {i}: segment [{start_s}, {end_s}] must start at 0 or later and end "
                    "after its start; correct it"
                )
            rows.append((len(videos), label, start_s, end_s))
        videos.append(video)
        duration_s.append(_number(place, "duration", entry.get("duration", math.nan)))
    if not videos:
        raise ValueError(
            f"{path}: no video has subset {subset!r}; choose one of: {', '.join(sorted(subsets)) or '(none)'}"
        )
    class_names = tuple(sorted(classes))
    class_index = {name: index for index, name in enumerate(class_names)}
    return GroundTruth(
        videos=tuple(videos),
        classes=class_names,
        duration_s=np.array(duration_s),
        video=np.array([row[0] for row in rows], dtype=np.intp),
        label=np.array([class_index[row[1]] for row in rows], dtype=np.intp),
        start_s=np.array([row[2] for row in rows], dtype=np.float64),
        end_s=np.array([row[3] for row in rows], dtype=np.float64),
    )


def read_detections(path: Path, classes: tuple[str, ...]) -> Detections:
    """The detections of every video in the file, in the file's order.

    `classes` are the labels that may occur, usually those of the ground truth. Raises ValueError with the
    file, the video and the fix for any other label and for anything that is not as the format says.
    """
    results = _section(path, _load(path), "results")
    class_index = {name: index for index, name in enumerate(classes)}
    rows: list[tuple[int, int, float, float, float]] = []
    for v, (video, detections) in enumerate(results.items()):
        if not isinstance(detections, list):
            raise ValueError(f"{path}: video {video!r} must hold a list of detections")
        for i, detection in enumerate(detections):
            place = f"{path}: video {video!r}, detection {i}"
            label = _label(place, detection)
            if label not in class_index:
                raise ValueError(
                    f"{place}: label {label!r} is not a class of the ground truth; its classes are "
                    f"{', '.join(classes)}"
                )
            start_s, end_s = _segment(place, detection)
            score = _finite(place, "score", detection.get("score"))
            rows.append((v, class_index[label], start_s, end_s, score))
    columns = np.array(rows, dtype=np.float64).reshape(-1, 5).T
    return Detections(
        tuple(results),
        classes,
        columns[0].astype(np.intp),
        columns[1].astype(np.intp),
        *columns[2:],
    )


def encode_ground_truth(ground_truth: GroundTruth, subset: str) -> bytes:
    """`ground_truth` as the annotations of `subset`; `read_ground_truth` reads the same values back."""
    database: dict[str, dict[str, Any]] = {}
    for video, duration_s in zip(ground_truth.videos, ground_truth.duration_s.tolist(), strict=True):
        known = {} if math.isnan(duration_s) else {"duration": duration_s}
        database[video] = {"subset": subset, **known, "annotations": []}
    columns = (ground_truth.video, ground_truth.label, ground_truth.start_s, ground_truth.end_s)
    for video_index, label, start_s, end_s in zip(*(column.tolist() for column in columns), strict=True):
        database[ground_truth.videos[video_index]]["annotations"].append(
            {"segment": [start_s, end_s], "label": ground_truth.classes[label]}
        )
    return json.dumps({"version": "1.3", "taxonomy": [], "database": database}, allow_nan=False).encode()


def write_ground_truth(path: Path, ground_truth: GroundTruth, subset: str) -> None:
    """Write `ground_truth` as the annotations of `subset`."""
    atomic_write(path, lambda file: file.write(encode_ground_truth(ground_truth, subset)))


def write_detections(path: Path, detections: Detections) -> None:
    """Write `detections`, every one of its videos included; `read_detections` reads the same values back."""
    results: dict[str, list[dict[str, Any]]] = {video: [] for video in detections.videos}
    columns = (detections.video, detections.label, detections.start_s, detections.end_s, detections.score)
    for video_index, label, start_s, end_s, score in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        results[detections.videos[video_index]].append(
            {"label": detections.classes[label], "segment": [start_s, end_s], "score": score}
        )
    encoded = json.dumps(
        {"version": "1.3", "results": results, "external_data": {}}, allow_nan=False
    ).encode()
    atomic_write(path, lambda file: file.write(encoded))


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except RecursionError as error:
        raise ValueError(f"{path}: objects or lists are nested too deeply; is this another file?") from error
    except ValueError as error:
        raise ValueError(f"{path}: not a JSON file ({error}); write it again") from error


def _section(path: Path, content: Any, name: str) -> dict[str, Any]:
    section = content.get(name) if isinstance(content, dict) else None
    if not isinstance(section, dict):
        kind = {"database": "ground truth", "results": "detections"}[name]
        raise ValueError(f'{path}: no "{name}" object; {kind} must have one, is this another file?')
    return section


def _label(place: str, item: Any) -> str:
    label = item.get("label") if isinstance(item, dict) else None
    if not isinstance(label, str):
        raise ValueError(f'{place} must be an object with a "label"')
    return label


def _segment(place: str, item: dict[str, Any]) -> tuple[float, float]:
    segment = item.get("segment")
    if not isinstance(segment, list) or len(segment) != 2:
        raise ValueError(f'{place}: "segment" must be [start, end] in seconds, got {reprlib.repr(segment)}')
    return _finite(place, "segment", segment[0]), _finite(place, "segment", segment[1])


def _finite(place: str, name: str, value: Any) -> float:
    number = _number(place, name, value)
    if not math.isfinite(number):
        raise ValueError(f'{place}: "{name}" must be finite, got {value!r}')
    return number


def _number(place: str, name: str, value: Any) -> float:
    # JSON's true and false are integers in Python.
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f'{place}: "{name}" must be a number, got {reprlib.repr(value)}')
    try:
        return float(value)
    except OverflowError:
        raise ValueError(
            f'{place}: "{name}" must be a number that fits a double, got {reprlib.repr(value)}'
        ) from None
