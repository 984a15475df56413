"""Files that are either whole or absent."""

import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast


def atomic_write(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a part.

    `write` receives an open binary file under a temporary name in the same folder; the file is flushed,
    synced and renamed to `path` when `write` returns, and removed when it raises.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    # Not tempfile: its files are private, but results are for everyone whom the umask admits.
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            write(cast(BinaryIO, file))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The rename itself is durable only once the folder's own entry has reached the disk.
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
