"""What was run, for whoever wants to trust it or run it again: the manifest in a reader's order."""

import hashlib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd

from analysis._words import count, setting
from analysis.load import Study
from analysis.report.story import hours
from study.records import EPOCHS, FAILURES, MANIFEST, TRIALS

_MAX_DIFF: Final = 20_000
_PROGRAM: Final = Path(__file__).parents[1]


class Fact(NamedTuple):
    """A line of the manifest."""

    name: str
    value: str
    is_code: bool = False


class Provenance(NamedTuple):
    """All of it: groups of facts, and the longer texts behind them."""

    groups: tuple[tuple[str, tuple[Fact, ...]], ...]
    texts: tuple[tuple[str, str], ...]  # title and text


def provenance(study: Study) -> Provenance:
    """Return the manifest as groups of facts."""
    groups = (
        ("Study", tuple(_study(study))),
        ("Settings of the ablation", tuple(_settings(study))),
        ("Machine", tuple(_machine(study))),
        (
            "Versions",
            tuple(Fact(name, version or "not installed") for name, version in study.versions.items()),
        ),
    )
    return Provenance(tuple(group for group in groups if group[1]), tuple(_texts(study)))


def facts(study: Study) -> list[Fact]:
    """Return what the first screen says of a study's size and state."""
    trials = study.trials[study.trials["phase"] != "context"]
    ended = trials["status"].value_counts()
    parts = [f"{ended[name]} {name}" for name in ended.index]
    untrained = len(study.trials) - len(trials)
    beside = f"; {count(untrained, 'score')} without training" if untrained else ""
    cpu_h, gpu_h = trials["cpu_s"].sum() / 3600, trials["gpu_s"].sum() / 3600
    seeds = len(study.main_seeds)
    found = [
        Fact("Data", f"{study.data}, fold {study.fold}"),
        Fact("Recipe", study.recipe),
        Fact("Ablation", f"{count(len(study.arms), 'arm')} × {count(seeds, 'seed')}"),
        Fact("Trials", f"{len(trials)}: {', '.join(parts)}{beside}"),
        Fact("CPU time", hours(cpu_h)),
        Fact("GPU time", hours(gpu_h) if gpu_h > 0 else "none"),
    ]
    return [*found, Fact("Records as of", records_as_of(study))] if len(trials) else found


def made_from(study: Study) -> str:
    """Return a digest of what a report is made from: the records, and the program that reads them."""
    digest = hashlib.sha256()
    for name in (MANIFEST, TRIALS, EPOCHS, FAILURES):
        digest.update(study.store.read(name) if study.store.exists(name) else b"")
    for path in sorted(_PROGRAM.rglob("*.*")):
        if path.suffix in (".py", ".html", ".css", ".js", ".csv"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def records_as_of(study: Study) -> str:
    """Return until when the records tell, UTC; empty without a trial."""
    moments = pd.concat([study.trials["started_at"], study.trials["ended_at"]]).dropna()
    return "" if moments.empty else f"{moments.max():%Y-%m-%d %H:%M} UTC"


def _study(study: Study) -> Iterator[Fact]:
    manifest = study.manifest
    yield Fact("id", manifest["id"], True)
    yield Fact("command", shlex.join(manifest["command"]), True)
    yield Fact("search space", study.name, True)
    yield Fact("recipe", f"{study.recipe}, version {manifest['recipe']['version']}")
    yield Fact("protocol", study.protocol)
    yield Fact("data", f"{study.data}, fold {study.fold}, data seed {study.data_seed}")
    yield Fact("data fingerprint", study.fingerprint, True)
    yield Fact("seed of the study", str(manifest["seed"]))
    yield Fact("deterministic", "yes" if manifest["deterministic"] else "no")
    if study.gate is not None:
        yield Fact("gate", str(study.gate))
    for name, seeds in study.selections.items():
        label = f"ablation seeds ({name})" if study.gate is not None else "ablation seeds"
        yield Fact(label, ", ".join(map(str, seeds)) or "none")
    for launch in manifest["launches"]:
        at = pd.Timestamp(launch["at"])
        yield Fact(f"launch of {at:%Y-%m-%d %H:%M} UTC", shlex.join(launch["command"]), True)
    if study.git is not None:
        changes = ", with uncommitted changes" if study.git["diff"] else ""
        yield Fact("source", f"{study.git['revision']}{changes}", True)


def _settings(study: Study) -> Iterator[Fact]:
    for name, value in (study.winner or {}).items():
        yield Fact(name, setting(value))


def _machine(study: Study) -> Iterator[Fact]:
    for name, value in study.manifest["hardware"].items():
        yield Fact(name.replace("_gb", " (GB)"), setting(value))


def _texts(study: Study) -> Iterator[tuple[str, str]]:
    yield "The search space", json.dumps(study.definition, indent=2, ensure_ascii=False)
    diff = (study.git or {}).get("diff")
    if diff:
        cut = f"\n… cut after {_MAX_DIFF} characters; manifest.json has all of it"
        yield "Uncommitted changes of the source", diff[:_MAX_DIFF] + (cut if len(diff) > _MAX_DIFF else "")
