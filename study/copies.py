"""Copies of data in the cache of this machine: whole or absent, one for each state of their source."""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from ftcl.data import DataError, cache_root
from ftcl.data.cache import digest
from ftcl.files import sync
from study.store import DISK_FULL, FileState, StorageError, Store

Say = Callable[[str], None]

# Most files are small, so the time goes into waiting for answers.
_READERS: Final = 32
_SAY_EVERY_S: Final = 10.0
_FOLDERS: Final = ("train", "validation", "test", "features")


class Copies:
    """This machine's copies of the data at a URI; an older one stays, as a study may still read it."""

    def __init__(self, place: str) -> None:
        # Opened data are named by their resolved place, and so is what has been verified.
        self._parent = (cache_root() / "staged").resolve()
        self._prefix = digest(place)[:16]

    def existing(self) -> list[Path]:
        """Return the folders of all copies."""
        return sorted(self._parent.glob(f"{self._prefix}-*"))

    def of(self, store: Store, say: Say) -> Path:
        """Return the folder of a copy of what lies in the store now; it is made if there is none.

        To be called by one process of this machine at a time. Raises DataError where there are no data or no
        room for them, and what the store raises.
        """
        files = _parts(store)
        if "gt.json" not in files:
            missing = store.place("gt.json")
            raise DataError(f"{missing} does not exist; give the address of the folder that holds gt.json")
        folder = self._parent / f"{self._prefix}-{digest(files)[:16]}"
        if _has_all(folder, files):
            return folder
        temporary = self._parent / f".{self._prefix}.tmp"
        with cache_errors():
            for path in (temporary, folder):
                if path.exists():  # left by a copier that was killed; a copy that has lost files
                    shutil.rmtree(path)
            for parent in {(temporary / name).parent for name in files}:
                parent.mkdir(parents=True, exist_ok=True)
        try:
            _copy(store, files, temporary, say, self.existing())
            if _parts(store) != files:  # perhaps in files that were copied before, or of the same size
                raise DataError(f"{store} has changed while it was copied; give the command again")
            with cache_errors():
                for inside, _, _ in os.walk(temporary):
                    sync(Path(inside))
                temporary.rename(folder)
                sync(folder.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return folder


def is_text(name: str) -> bool:
    """Say whether a file at the head of the data's folder belongs to the data."""
    return name in ("gt.json", "meta.json") or (name.startswith("split_") and name.endswith(".txt"))


def _parts(store: Store) -> dict[str, FileState]:
    try:
        return {name: state for name, state in store.states().items() if _is_part(name)}
    except StorageError:
        raise
    except OSError as error:
        raise DataError(f"cannot read {store}: {error}") from error


def _is_part(name: str) -> bool:
    """Say whether a file, by its name below the data's folder, belongs to the data."""
    first, *rest = PurePosixPath(name).parts
    return is_text(name) if not rest else first in _FOLDERS and name.endswith(".npy") and ".." not in rest


def _has_all(folder: Path, files: Mapping[str, FileState]) -> bool:
    try:
        return all((folder / name).stat().st_size == state.size for name, state in files.items())
    except OSError:
        return False


def _copy(
    store: Store, files: Mapping[str, FileState], folder: Path, say: Say, older: Sequence[Path]
) -> None:
    total = sum(state.size for state in files.values())
    free = shutil.disk_usage(folder).free
    if total > free:
        raise DataError(_full(store, total, free, older))
    say(f"copying the data {store} to this machine: {len(files)} files, {_show(total)}, into {folder.parent}")
    done, started_s = 0, time.monotonic()
    said_s = started_s
    pool = ThreadPoolExecutor(_READERS)
    try:
        futures = {pool.submit(_copy_one, store, name, folder / name): name for name in files}
        for future in as_completed(futures):
            name = futures[future]
            copied = future.result()
            if copied != files[name].size:
                raise DataError(
                    f"{store.place(name)} has changed while it was copied; give the command again"
                )
            done += copied
            if time.monotonic() - said_s > _SAY_EVERY_S:
                say(f"  {_show(done)} of {_show(total)}")
                said_s = time.monotonic()
    except FileNotFoundError as error:
        raise DataError(
            f"{store} has changed while it was copied: {error}; give the command again"
        ) from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        if error.errno in DISK_FULL:
            free = shutil.disk_usage(folder).free
            raise DataError(_full(store, total - done, free, older)) from error
        raise DataError(f"cannot copy the data {store} to {folder.parent}: {error}") from error
    finally:
        pool.shutdown(cancel_futures=True)
    say(f"  copied in {time.monotonic() - started_s:.0f} s")


def _copy_one(store: Store, name: str, target: Path) -> int:
    """Copy a file, down to the disk; return its bytes."""
    size = 0
    with target.open("wb") as file:
        for chunk in store.chunks(name):
            size += file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    return size


def _full(store: Store, needed: int, free: int, older: Sequence[Path]) -> str:
    fix = "free some space, or set XDG_CACHE_HOME to a larger disk"
    if older:
        names = ", ".join(map(str, older))
        fix += f"; these are older copies of the same data, to be deleted if no study reads them: {names}"
    return (
        f"the disk of {socket.gethostname()} has no room for the data {store}: {_show(needed)} are needed in "
        f"{cache_root()}, {_show(free)} are free; {fix}"
    )


def _show(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


@contextmanager
def cache_errors() -> Iterator[None]:
    """Say of an error of the system that it is the cache that cannot be written."""
    try:
        yield
    except OSError as error:
        raise DataError(
            f"cannot write the cache {cache_root()} on {socket.gethostname()} ({error}); free some space "
            "there, or set XDG_CACHE_HOME to a folder that can be written"
        ) from error
