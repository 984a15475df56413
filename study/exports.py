"""The pretrained models of a study: which there are, which are being made, and what makes one."""

from collections.abc import Callable, Mapping
from typing import Any

from ftcl.recipes.recipe import Recipe
from study.entries import Entries
from study.keys import Keys
from study.rows import Cell, Row, Status


class Exports:
    """What stages have exported for the stages after them, by key.

    `has_file` says whether a file is there still; `gone` is told of a trial whose file is not.
    """

    def __init__(
        self,
        recipe: Recipe,
        keys: Keys,
        fixed: Mapping[str, Any],
        entries: Entries,
        has_file: Callable[[str], bool],
        gone: Callable[[Row], None],
    ) -> None:
        self._recipe = recipe
        self._keys = keys
        self._fixed = fixed
        self._entries = entries
        self._has_file = has_file
        self._gone = gone
        self._base_keys: dict[int, str | None] = {}

    def key(self, parameters: Mapping[str, Any], stage: int, seed: int) -> str | None:
        """Return the key of what a stage exports; None before the first stage."""
        return self._keys.export(parameters, stage, seed)

    def find(self, key: str | None) -> Row | None:
        """Return the trial that makes an export, if it was started."""
        return None if key is None else self._entries.export(key)

    def base(self, seed: int) -> Row | None:
        """Return the trial that makes the model of a seed without searched settings, if it was started."""
        if seed not in self._base_keys:
            self._base_keys[seed] = self.key(self._fixed, len(self._recipe.stages) - 2, seed)
        return self.find(self._base_keys[seed])

    def state(self, key: str | None) -> Status | None:
        """Say how far the export is that a trial needs; one whose file somebody has removed is made again."""
        if key is None:
            return "complete"
        row = self.find(key)
        if row is None:
            return None
        if row.status == "complete" and not self._has_file(row.result["export"]):
            self._gone(
                self._entries.supersede(row.trial, f"its exported model {row.result['export']} is gone")
            )
            return None
        return row.status

    def trial(
        self, phase: str, parameters: Mapping[str, Any], stage: int, seed: int
    ) -> tuple[Cell, Mapping[str, Any]]:
        """Return the place and the settings of the trial that makes the export of a stage."""
        cell = Cell(
            phase=phase,
            stage=self._recipe.stages[stage].name,
            seed=seed,
            pretrain_key=self.key(parameters, stage, seed),
        )
        # Trials with other settings share it, so its row has what its stages read and what is fixed for all.
        groups = {group for link in self._recipe.stages[: stage + 1] for group in link.key_groups}
        read = {name: value for name, value in parameters.items() if name.split(".")[0] in groups}
        return cell, {**self._fixed, **read}
