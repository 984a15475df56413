"""The files of what stages export; a name has the key (study.keys), its attempt, and a digest."""

import io
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from ftcl.data import DataError
from ftcl.training.checkpoint import read_checkpoint
from study.checkpoints import digest, serialised
from study.store import Store

_FIX: Final = "restore it, or delete its file and give the command again with --retry-failed"


def write_export(store: Store, key: str, attempt: int, weights: Mapping[str, Tensor]) -> str:
    """Write what a trial exports; return the file's name."""
    with serialised(weights) as data:
        name = f"pretrained/{key}-{attempt:04}-{digest(data)}.pt"
        store.write(name, data)
    return name


def load_export(store: Store, name: str) -> dict[str, Tensor]:
    """Return the weights of an export.

    Raises DataError if the file is gone, or is not what its name proves.
    """
    try:
        content = store.read(name)
    except FileNotFoundError as error:
        raise DataError(f"the pretrained model {store.place(name)} is gone; {_FIX}") from error
    if digest(content) != name.removesuffix(".pt").rpartition("-")[2]:
        raise DataError(f"the pretrained model {store.place(name)} is damaged; {_FIX}")
    return read_checkpoint(io.BytesIO(content), store.place(name))
