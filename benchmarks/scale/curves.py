"""Recorded trials for the simulation: how long their epochs took and what they scored.

`python -m benchmarks.scale.curves STUDY` makes curves.json from the records of a study of the space fsd_lcs.
"""

import dataclasses
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from study.records import EPOCHS, TRIALS, open_store, read_manifest, read_table
from study.spec import IntRange, Space

FILE: Final = Path(__file__).parent / "curves.json"
_OBJECTIVE: Final = "validation/mAP@0.1:0.7"
_LAPS: Final = ("wall_s", "cpu_s", "gpu_s")


@dataclass(frozen=True)
class Curve:
    """One recorded trial, epoch by epoch."""

    proposal: int | None
    seed: int
    wall_s: tuple[float, ...]
    objective: tuple[float, ...]  # empty for a pretraining, which is not evaluated at each epoch


@dataclass(frozen=True)
class Curves:
    """The recorded trials of a study whose proposals were random and ran to their end."""

    provenance: Mapping[str, Any]
    metrics: Mapping[str, list[str]]  # of an epoch of each stage
    settings: Mapping[int, Mapping[str, float]]  # by proposal
    pretrain: list[Curve]
    finetune: list[Curve]

    @staticmethod
    def load() -> "Curves":
        """Read curves.json."""
        content = json.loads(FILE.read_text(encoding="utf-8"))
        stages = {
            stage: [
                Curve(c["proposal"], c["seed"], tuple(c["wall_s"]), tuple(c["objective"]))
                for c in content[stage]
            ]
            for stage in ("pretrain", "finetune")
        }
        settings = {int(number): values for number, values in content["settings"].items()}
        return Curves(content["provenance"], content["metrics"], settings, **stages)

    @property
    def mean_finetune_s(self) -> float:
        """Mean seconds of a fine-tuning that runs to its end."""
        return float(np.mean([sum(curve.wall_s) for curve in self.finetune]))


def to_unit(space: Space, settings: Mapping[str, Any]) -> np.ndarray:
    """Return the searched settings of a trial as a point of the unit cube."""
    point = []
    for name, range_ in space.search.parameters.items():
        assert range_.kind != "choice"
        value, low, high = settings[name], float(range_.low), float(range_.high)
        if isinstance(range_, IntRange):
            low, high = low - 0.5, high + 0.5
        if range_.log:
            value, low, high = np.log(value), np.log(low), np.log(high)
        point.append((value - low) / (high - low))
    return np.array(point)


def _make(out: str) -> dict[str, Any]:
    store = open_store(out)
    manifest = read_manifest(store)
    trials = {row["trial"]: row for row in read_table(store, TRIALS).to_pylist()}
    epochs: dict[int, list[dict[str, Any]]] = {}
    for row in read_table(store, EPOCHS).to_pylist():
        epochs.setdefault(row["trial"], []).append(row)
    content: dict[str, Any] = {
        "provenance": {
            "space": manifest["space"]["name"],
            "data": manifest["data"]["spec"],
            "fingerprint": manifest["data"]["fingerprint"],
            "git": manifest["git"],
            "hardware": manifest["hardware"],
            "versions": {name: manifest["versions"][name] for name in ("python", "torch", "ray", "optuna")},
        },
        "metrics": {},
        "settings": {},
        "pretrain": [],
        "finetune": [],
    }
    for number, trial in trials.items():
        if trial["status"] != "complete" or trial["stage"] not in ("pretrain", "finetune"):
            continue
        laps = sorted(epochs.get(number, []), key=lambda row: row["epoch"])
        if trial["stage"] == "finetune":
            if trial["phase"] != "search":
                continue
            settings = json.loads(trial["settings"])
            content["settings"][trial["proposal"]] = {
                name: float(f"{value:.5g}") for name, value in settings.items()
            }
        content["metrics"][trial["stage"]] = [
            name for name, value in laps[-1].items() if name not in ("trial", "epoch") and value is not None
        ]
        curve = Curve(
            trial["proposal"],
            trial["seed"],
            tuple(round(lap["wall_s"], 4) for lap in laps),
            tuple(round(lap[_OBJECTIVE], 3) for lap in laps if trial["stage"] == "finetune"),
        )
        content[trial["stage"]].append(dataclasses.asdict(curve))
    return content


def main() -> int:
    """Make the file from a study's records."""
    content = _make(sys.argv[1])
    lines = [f'"{name}": {json.dumps(content[name])}' for name in ("provenance", "metrics")]
    lines.append(
        '"settings": {\n'
        + ",\n".join(f'"{number}": {json.dumps(of)}' for number, of in content["settings"].items())
        + "\n}"
    )
    for stage in ("pretrain", "finetune"):
        lines.append(f'"{stage}": [\n' + ",\n".join(json.dumps(curve) for curve in content[stage]) + "\n]")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
