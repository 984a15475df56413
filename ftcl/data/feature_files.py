"""Feature files on disk: where they lie, whether they can be trained on, and what they hold.

Shapes: T snippets of a video, D feature channels.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from ftcl.data.annotations import raise_first
from ftcl.data.cache import cache_root
from ftcl.data.videos import DataError
from ftcl.files import atomic_write

# Bump when a check is added: files that passed the older checks are then read again.
_CHECKS_VERSION = 1


class FeatureFile(NamedTuple):
    """A readable (T, D) feature file. `sha256` is empty when the file was opened but not verified."""

    size: int
    mtime_ns: int
    num_snippets: int
    num_features: int
    sha256: str


def locate(folder: Path, splits: Mapping[str, Iterable[str]]) -> dict[str, tuple[Path, ...]]:
    """Return the feature files of every video: `<split>/<video>.npy`, or an RGB and a flow file.

    The second form is `features/<split>/{rgb,flow}/<video>.npy` and is taken if there is no folder `train`.
    Validation videos lie in a folder `validation`, or in `train` if there is none. Raises DataError for
    missing folders and files.
    """
    two_streams = not (folder / "train").is_dir() and (folder / "features").is_dir()
    root = folder / "features" if two_streams else folder
    files: dict[str, tuple[Path, ...]] = {}
    for split, names in splits.items():
        held_in_train = split == "validation" and not (root / split).is_dir()
        of_split = root / ("train" if held_in_train else split)
        streams = (of_split / "rgb", of_split / "flow") if two_streams else (of_split,)
        for stream in streams:
            if not stream.is_dir():
                raise DataError(f"the feature folder {stream} is missing; put <video>.npy files there")
        files |= {name: tuple(stream / f"{name}.npy" for stream in streams) for name in names}
    raise_first(
        [
            f"video {name} has no feature file {path}"
            for name, paths in files.items()
            for path in paths
            if not path.is_file()
        ],
        "extract its features or remove it from its split",
    )
    return files


def open_files(folder: Path, paths: Iterable[Path], *, verify: bool) -> dict[Path, FeatureFile]:
    """Return what each file holds; files that are as they were when last verified are not read again.

    `verify` reads every other file wholly, checks and hashes it, and remembers it in the cache; otherwise
    only its header is read, or its hash is compared with the one that is remembered. Raises DataError for
    files that are no plain float array (T >= 1, D >= 1) of finite values, or have changed.
    """
    memory = cache_root() / "verified" / f"{hashlib.sha256(str(folder).encode()).hexdigest()[:32]}.json"
    remembered = _remembered(memory)
    opened: dict[Path, FeatureFile] = {}
    problems: dict[str, list[str]] = {}
    for path in paths:
        status = path.stat()
        known = remembered.get(str(path))
        if known and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns):
            opened[path] = known
            continue
        array, problem = _load(path)
        if problem is None and known and not verify and _sha256(path) != known.sha256:
            problem = "has changed since it was verified"
        if problem is None and verify:
            problem = _value_problem(array)
        if problem is not None:
            problems.setdefault(problem, []).append(str(path))
            continue
        num_snippets, num_features = array.shape
        sha256 = _sha256(path) if verify else ""
        opened[path] = FeatureFile(status.st_size, status.st_mtime_ns, num_snippets, num_features, sha256)
    for problem, paths_with_it in problems.items():
        raise_first(
            [f"{path} {problem}" for path in paths_with_it],
            "extract the features again and save them as (T, D) float32 with np.save",
        )
    current = {str(path): file for path, file in opened.items()}
    if verify and current != remembered:
        _remember(memory, current)
    return opened


def _load(path: Path) -> tuple[np.ndarray, str | None]:
    nothing = np.empty((0, 0))
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return nothing, (
            "cannot be read as a plain .npy array: it is damaged, or would need pickle, which could run code"
        )
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        return nothing, "does not hold one array of floating-point numbers"
    if array.ndim != 2:
        return nothing, f"holds an array of shape {array.shape} where (snippets, channels) is needed"
    if array.size == 0:
        return nothing, f"is empty: its shape is {array.shape}"
    return array, None


def _value_problem(array_TD: np.ndarray) -> str | None:
    with np.errstate(over="ignore"):
        values = np.asarray(array_TD, dtype=np.float32)
    if np.isfinite(values).all():
        return None
    return "holds NaN" if np.isnan(values).any() else "holds values that are infinite as float32"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remembered(memory: Path) -> dict[str, FeatureFile]:
    try:
        content = json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}
    # It can be rebuilt, so whatever is wrong with it is no reason to stop.
    if not isinstance(content, dict) or content.get("version") != _CHECKS_VERSION:
        return {}
    files = content.get("files")
    return {
        path: FeatureFile(*fields)
        for path, fields in (files.items() if isinstance(files, dict) else ())
        if isinstance(fields, list) and [type(field) for field in fields] == [int, int, int, int, str]
    }


def _remember(memory: Path, files: Mapping[str, FeatureFile]) -> None:
    content = json.dumps({"version": _CHECKS_VERSION, "files": files}).encode()

    def write(file: BinaryIO) -> None:
        file.write(content)

    try:
        atomic_write(memory, write)
    except OSError as error:
        raise DataError(
            f"cannot write the cache {memory} ({error}); set XDG_CACHE_HOME to a folder that can be written"
        ) from error


def check_widths(
    files: Mapping[str, tuple[Path, ...]], opened: Mapping[Path, FeatureFile], num_features: int | None
) -> int:
    """Return D, the same for all videos: `num_features`, or what most videos have.

    RGB and flow channels add up. Raises DataError for a video of another width, and for RGB and flow files
    whose lengths differ by more than the one snippet that extraction can lose.
    """
    width_of = {name: sum(opened[path].num_features for path in paths) for name, paths in files.items()}
    expected = num_features or Counter(width_of.values()).most_common(1)[0][0]
    raise_first(
        [
            f"video {name} has {width} channels, not {expected}, in {' + '.join(map(str, files[name]))}"
            for name, width in width_of.items()
            if width != expected
        ],
        "extract all features with one network, or load other widths as acm:DIR",
    )
    raise_first(
        [
            f"video {name} has {lengths[0]} RGB snippets in {paths[0]} but {lengths[1]} flow snippets"
            for name, paths in files.items()
            if max(lengths := [opened[path].num_snippets for path in paths]) - min(lengths) > 1
        ],
        "lengths may differ by one snippet: extract both streams from the same frames",
    )
    return expected
