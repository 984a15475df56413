"""Which earlier stage's export a trial needs, and where it lies.

A prefix of a recipe's stages is named by a key over everything that can change its weights, so that trials
which agree on all of it share one run: key = hash(stage, its configuration, parent key, data fingerprint,
seed, recipe version).
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from ftcl.recipes.recipe import Config, Recipe


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


def export_path(out: Path, key: str) -> Path:
    """Return where the export of a key lies."""
    return out / "pretrained" / f"{key}.pt"
