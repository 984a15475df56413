"""Names for what trials make, by all that can change it: equal keys mean equal content."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftcl.recipes.config import configure
from ftcl.recipes.recipe import Recipe
from study.rows import Row


@dataclass(frozen=True)
class Keys:
    """What all trials of a study have in common, as far as it changes their numbers."""

    recipe: Recipe
    preset: str  # of the data
    fingerprint: str  # of the data
    deterministic: bool
    protocol: str

    def export(self, parameters: Mapping[str, Any], stage: int, seed: int) -> str | None:
        """Return the key of what a stage exports; None before the first stage.

        A prefix of the recipe's stages is named by everything that can change its weights, so that trials
        which agree on it share one run: hash(stage, its configuration, parent key, data, seed, version).
        """
        if stage < 0:
            return None
        spec = self.recipe.stages[stage]
        config = configure(self.recipe, self.preset, parameters)
        return _hash(
            {
                "kind": spec.kind,
                "version": self.recipe.version,
                "config": {group: dataclasses.asdict(config[group]) for group in spec.key_groups},
                "parent": self.export(parameters, stage - 1, seed),
                "data": self.fingerprint,
                "seed": seed,
                "deterministic": self.deterministic,
            }
        )

    def run(self, row: Row) -> str:
        """Return the key of a trial's checkpoints: found again even if its number was given to another."""
        return _hash(
            {
                "cell": vars(row.cell),
                "parameters": dict(row.parameters),
                "recipe": [self.recipe.name, self.recipe.version],
                "preset": self.preset,
                "fingerprint": self.fingerprint,
                "deterministic": self.deterministic,
                "protocol": self.protocol,
            }
        )


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
