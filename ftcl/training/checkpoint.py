"""Checkpoint files: whole or absent, and readable without running code from them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ftcl.files import atomic_write


def save_checkpoint(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings, lists and dicts to `path` atomically."""
    atomic_write(path, lambda file: torch.save(dict(content), file))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; ValueError where the file is no checkpoint or would run code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    # Bytes that are no checkpoint fail in any way, and torch's advice is to let them run code.
    except Exception as error:
        reason = (
            "it is empty"
            if path.stat().st_size == 0
            else "it is damaged, another kind of file, or would run code of its own, which is never allowed"
        )
        raise ValueError(f"{path} is not a readable checkpoint: {reason}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a checkpoint's dictionary")
    return content
