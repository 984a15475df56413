"""Which earlier stage's export a trial needs, and the files of exports.

A prefix of a recipe's stages is named by a key over everything that can change its weights, so that trials
which agree on all of it share one run: key = hash(stage, its configuration, parent key, data fingerprint,
seed, recipe version). A file's name has the attempt that wrote it and a digest of its content too.
"""

import dataclasses
import hashlib
import io
import json
from collections.abc import Mapping
from typing import Final

from torch import Tensor

from ftcl.data import DataError
from ftcl.recipes.recipe import Config, Recipe
from ftcl.training.checkpoint import read_checkpoint
from study.checkpoints import digest, serialised
from study.store import Store

_FIX: Final = "restore it, or delete its file and give the command again with --retry-failed"


def export_key(
    recipe: Recipe, config: Config, stage: int, *, fingerprint: str, seed: int, deterministic: bool
) -> str | None:
    """Return the key (16 hex digits) of what a stage of the recipe exports; None before the first."""
    if stage < 0:
        return None
    parent = export_key(
        recipe, config, stage - 1, fingerprint=fingerprint, seed=seed, deterministic=deterministic
    )
    spec = recipe.stages[stage]
    content = {
        "kind": spec.kind,
        "version": recipe.version,
        "config": {group: dataclasses.asdict(config[group]) for group in spec.key_groups},
        "parent": parent,
        "data": fingerprint,
        "seed": seed,
        "deterministic": deterministic,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


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
