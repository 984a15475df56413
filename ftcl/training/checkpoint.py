"""Checkpoints: where a run keeps them, and files that are readable without running code from them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import torch

from ftcl.files import atomic_write


class ForeignCheckpoint(ValueError):
    """A checkpoint is whole, but of another run than the one that wants to continue from it."""


class Checkpoints(Protocol):
    """Where a run keeps the state that it continues from; `str` of it names the place."""

    def load(self) -> dict[str, Any] | None:
        """Return the newest content on the CPU; None where there is none."""

    def save(self, epoch: int, content: Mapping[str, Any]) -> None:
        """Keep what a run needs to continue after `epoch`; whole, or not at all."""


class FileCheckpoint:
    """One file that each save replaces."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    def load(self) -> dict[str, Any] | None:
        return load_checkpoint(self._path) if self._path.exists() else None

    def save(self, epoch: int, content: Mapping[str, Any]) -> None:
        atomic_write(self._path, lambda file: torch.save(dict(content), file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; ValueError where the file is no checkpoint or would run code."""
    with path.open("rb") as file:
        return read_checkpoint(file, str(path))


def read_checkpoint(file: BinaryIO, name: str) -> dict[str, Any]:
    """Read a checkpoint from an open file onto the CPU; errors call it `name`."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # Bytes that are no checkpoint fail in any way, and torch's advice is to let them run code.
    except Exception as error:
        reason = (
            "it is empty"
            if file.seek(0, os.SEEK_END) == 0
            else "it is damaged, another kind of file, or would run code of its own, which is never allowed"
        )
        raise ValueError(f"{name} is not a readable checkpoint: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{name} holds a {type(content).__name__}, not a checkpoint's dictionary")
    return content
