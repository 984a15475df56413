"""Checkpoint files: whole or absent, and readable without running code from them."""

import pickle
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
    except (RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} is not a readable checkpoint ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not a checkpoint's dictionary")
    return content
