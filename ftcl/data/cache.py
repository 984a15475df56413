"""The cache on this machine: data sets that are built once, whole or absent."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ftcl.data.videos import DataError
from ftcl.files import sync


def cache_root() -> Path:
    """Return the folder of everything that can be rebuilt: $XDG_CACHE_HOME/ftcl, or ~/.cache/ftcl."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "ftcl"


def digest(value: object) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def built_folder(name: str, inputs: Mapping[str, object], build: Callable[[Path], None]) -> Path:
    """Return the folder `name`-<hash of inputs> of the cache; `build` fills it if it does not exist yet.

    The folder is built beside its place, synced and renamed, so it exists whole or not at all. Processes that
    build the same folder at once need no lock: the first rename wins and the others drop their copy.
    """
    folder = cache_root() / f"{name}-{digest(inputs)[:16]}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        try:
            build(temporary)
            _sync_tree(temporary)
            _rename_or_yield(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise DataError(
            f"cannot build the data set {name} in {folder.parent} ({error}); "
            "free some space there or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
    return folder


def _rename_or_yield(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError:
        # A folder with files cannot be renamed over: another process has finished the same content first.
        if not folder.is_dir():
            raise
    sync(folder.parent)


def _sync_tree(root: Path) -> None:
    for folder, _, files in os.walk(root):
        for file in files:
            sync(Path(folder, file))
        sync(Path(folder))
