"""The data of a study on the machine that reads them: copied there once if they lie elsewhere, and verified.

`thumos14:DIR` is read where it is. `thumos14:s3://BUCKET/FOLDER`, or any other URI of study.store, is copied
into the cache of the machine (study.copies) and opened there; the data keep the URI as their name. Each
machine verifies what it has once: a marker in the cache says so until a file of the data changes.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from ftcl.data import DataError, VideoDataset, cache_root, load_dataset
from ftcl.data.cache import digest
from ftcl.files import atomic_write
from study.copies import Copies, Say, cache_errors, is_text
from study.store import StorageError, open_store

_PRESETS: Final = ("acm", "thumos14", "activitynet")


class NodeUnfit(DataError):
    """This machine lacks what the study's trials need, or has another; another machine may have it."""


@dataclass(frozen=True)
class _Case:
    """What a fingerprint depends on, beside the files."""

    fold: int
    seed: int
    hold_out: bool


def open_data(
    spec: str,
    *,
    fold: int,
    seed: int,
    hold_out: bool,
    fingerprint: str | None = None,
    say: Say | None = None,
) -> VideoDataset:
    """Open the data that a study names, as `load_dataset` does, after copying those of a URI.

    Without a fingerprint, as in a driver, the data are verified and theirs is computed. With one, as in a
    worker, they must have it; a machine that has verified them before only opens them. `say` hears of a copy.
    Raises DataError for unusable data, or, with a fingerprint, NodeUnfit; and StoreError for a wrong address.
    """
    case = _Case(fold, seed, hold_out)
    try:
        return _open(spec, case, fingerprint, say or _say_nothing)
    except DataError as error:
        if fingerprint is None:
            raise
        raise NodeUnfit(f"{socket.gethostname()} cannot use the study's data: {error}") from error
    except StorageError as error:
        if fingerprint is not None:
            raise  # the storage, and no fault of this machine
        raise DataError(f"cannot read the data {spec}: {error}") from error


def _open(spec: str, case: _Case, fingerprint: str | None, say: Say) -> VideoDataset:
    if fingerprint is not None and (known := _open_known(spec, case, fingerprint)) is not None:
        return known
    preset, place = _remote_place(spec)
    with _locked(place or spec, say):  # one copy serves all presets
        # Whoever held the lock may just have done it.
        if fingerprint is not None and (known := _open_known(spec, case, fingerprint)) is not None:
            return known
        if place is None:
            data = load_dataset(spec, **asdict(case), fingerprint=fingerprint)
            _write_marker(data, case)
            return data
        store = open_store(place, patient=fingerprint is not None)
        folder = Copies(place).of(store, say)
        try:
            data = load_dataset(f"{preset}:{folder}", **asdict(case), fingerprint=fingerprint)
        except DataError as error:
            raise DataError(f"the data {spec}, copied to {folder}: {error}") from error
        _write_marker(data, case)
        return replace(data, spec=spec)


def _remote_place(spec: str) -> tuple[str, str | None]:
    """Return the preset and the URI of data that are to be copied; None of those that are not."""
    preset, _, place = spec.partition(":")
    return preset, place if preset in _PRESETS and "://" in place else None


def _say_nothing(text: str) -> None:
    pass


def _open_known(spec: str, case: _Case, fingerprint: str) -> VideoDataset | None:
    """Open data that this machine has verified, or their copy; None if they have changed, or it has not."""
    preset, place = _remote_place(spec)
    copies = [] if place is None else Copies(place).existing()
    for local in [spec] if place is None else [f"{preset}:{folder}" for folder in copies]:
        marker = _marker(local, case, fingerprint)
        try:
            verified = marker.read_text()
            data = load_dataset(local, **asdict(case), verify=False, fingerprint=fingerprint)
        except (OSError, DataError):
            continue  # what is wrong is told when they are verified
        if verified == _state(data):
            return data if place is None else replace(data, spec=spec)
    return None


def _marker(spec: str, case: _Case, fingerprint: str) -> Path:
    key = digest({"spec": spec, **asdict(case), "fingerprint": fingerprint})
    return cache_root() / "verified" / f"{key[:32]}.state"


def _write_marker(data: VideoDataset, case: _Case) -> None:
    content = _state(data).encode()
    with cache_errors():
        atomic_write(_marker(data.spec, case, data.fingerprint), lambda file: file.write(content))


def _state(data: VideoDataset) -> str:
    """Digest of names, sizes and times of all files that the data consist of."""
    files = sorted(path for paths in data.feature_files.values() for path in paths)
    # DIR/<split>/<video>.npy, or DIR/features/<split>/<stream>/<video>.npy
    two_streams = any(len(paths) == 2 for paths in data.feature_files.values())
    root = files[0].parents[3 if two_streams else 1]
    texts = sorted(path for path in root.iterdir() if is_text(path.name))
    statuses = [(str(path), path.stat()) for path in (*texts, *files)]
    return digest([[path, status.st_size, status.st_mtime_ns] for path, status in statuses])


@contextmanager
def _locked(place: str, say: Say) -> Iterator[None]:
    """Let one process of this machine at a time copy and verify the same data; its end frees the lock."""
    path = cache_root() / "locks" / digest(place)[:32]
    with cache_errors():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        with cache_errors():  # some network disks lock no files
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"another process of this machine is busy with the data {place}; waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
