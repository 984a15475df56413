"""What the commands of `python -m ftcl` do."""

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from ftcl.data import VideoDataset, load_dataset
from ftcl.evaluation import write_detections
from ftcl.files import atomic_write
from ftcl.recipes import RECIPES, Recipe, StageSpec
from ftcl.recipes.config import configure, parameters, resolve_name, to_flat
from ftcl.recipes.protocol import holds_out, selection_split, with_protocol
from ftcl.recipes.recipe import Config, SavedModel
from ftcl.training import EpochRecord, FileCheckpoint, Selection, fit
from ftcl.training.device import choose_device

# A line for the first, the last and about so many epochs in between.
_NUM_LINES = 10


def train(options: argparse.Namespace) -> None:
    """Train every stage of a recipe, or continue where an earlier run stopped, and score it on test."""
    recipe = RECIPES[options.recipe]
    out: Path = options.out
    _require_writable(out)
    device = choose_device(options.device)
    weights: Mapping[str, Tensor] | None = None
    own: Mapping[str, Any] = {}
    stages = recipe.stages
    if options.pretrained is not None:
        weights, own = _pretrained(recipe, options.pretrained)
        stages = stages[1:]
    data, config = _prepare(recipe, options, own)
    epochs: dict[str, int] = {}
    print(
        f"{recipe.title}\ndata {data.spec}, seed {options.seed}, {device.type}, protocol {options.protocol}"
    )
    for spec in stages:
        stage = spec.build(config, data, device, options.seed, weights)
        split = selection_split(spec, options.protocol)
        select = None if split is None else Selection(recipe.headline, recipe.metrics[recipe.headline], split)
        run = fit(stage, checkpoints=FileCheckpoint(out / f"{spec.name}.pt"), select=select)
        for record in run:
            if _is_shown(record, stage.epochs):
                print(_line(spec, record, stage.epochs, select), flush=True)
        epochs[spec.name], weights = run.chosen()
    assert weights is not None
    stage.load_export(weights)
    evaluation = stage.evaluate("test")
    write_detections(out / "predictions.json", evaluation.detections)
    report = {
        "recipe": recipe.name,
        "recipe_version": recipe.version,
        "data": data.spec,
        "data_fingerprint": data.fingerprint,
        "fold": options.fold,
        "data_seed": options.data_seed,
        "seed": options.seed,
        "pretrained": None if options.pretrained is None else str(options.pretrained),
        "protocol": options.protocol,
        "split": "test",
        "chosen_epochs": epochs,
        "metrics": evaluation.metrics,
        "config": to_flat(config),
    }
    _write_json(out / "metrics.json", report)
    _print_metrics(evaluation.metrics, f"test, epoch {epochs[recipe.stages[-1].name]}")
    if options.protocol == "reference":
        print("The epoch was chosen on the test split, as the authors did: the result is optimistic.")
    print(f"written: {out}")


def evaluate(options: argparse.Namespace) -> None:
    """Score a checkpoint on a split."""
    recipe = RECIPES[options.recipe]
    if options.out is not None:
        if options.out.is_dir():
            raise ValueError(f"--out {options.out} is a folder; name a file for the detections")
        _require_writable(options.out.resolve().parent)
    device = choose_device(options.device)
    model = _read_model(recipe, options.checkpoint)
    data, config = _prepare(recipe, options, model.settings or {})
    if model.settings is None:
        print(f"settings: the preset {data.preset}, for {options.checkpoint} holds weights only")
    else:
        print(f"settings: those that {options.checkpoint} was trained with")
    try:
        stage = recipe.stages[-1].build(config, data, device, 0, model.weights)
    except ValueError as error:
        raise ValueError(f"{options.checkpoint}: {error}") from error
    started_s = time.perf_counter()
    evaluation = stage.evaluate(options.split)
    seconds = time.perf_counter() - started_s
    _print_metrics(
        evaluation.metrics, f"{options.split}, {len(data.splits[options.split])} videos, {seconds:.1f} s"
    )
    if options.out is not None:
        write_detections(options.out, evaluation.detections)
        print(f"written: {options.out}")


def _read_model(recipe: Recipe, path: Path) -> SavedModel:
    if not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    return recipe.read_model(path)


def _pretrained(recipe: Recipe, path: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Weights that take the place of the first stage, and the settings of their network if they are known."""
    if len(recipe.stages) == 1:
        raise ValueError(f"--pretrained replaces the first stage, but recipe {recipe.name} has no other")
    model = _read_model(recipe, path)
    # Later stages share the groups of the first one, except for those of its training alone.
    shared = {group for stage in recipe.stages[1:] for group in stage.key_groups}
    shared &= set(recipe.stages[0].key_groups)
    own = {name: value for name, value in (model.settings or {}).items() if name.split(".")[0] in shared}
    return model.weights, own


COMMANDS: Mapping[str, Callable[[argparse.Namespace], None]] = {"train": train, "evaluate": evaluate}


def _prepare(
    recipe: Recipe, options: argparse.Namespace, own: Mapping[str, Any] = MappingProxyType({})
) -> tuple[VideoDataset, Config]:
    """Data and config: the preset's values, over them a model's `own`, over them the user's."""
    overrides: dict[str, str] = {}
    for assignment in options.overrides:
        name, separator, value = assignment.partition("=")
        if not separator:
            raise ValueError(f"--set {assignment}: write NAME=VALUE")
        full = resolve_name(recipe, name)
        if full in overrides:
            raise ValueError(f"--set {name} is given twice")
        overrides[full] = value
    # The preset is the word before the folder, so wrong parameters are found before data are read.
    configure(recipe, _preset_or_any(recipe, options.data), overrides)
    data = load_dataset(
        options.data, fold=options.fold, seed=options.data_seed, hold_out=holds_out(options.protocol)
    )
    # A model of another recipe may know more parameters: FTCL's can be evaluated as an ACM-Net.
    known = {name: value for name, value in own.items() if name in parameters(recipe)}
    config = with_protocol(configure(recipe, data.preset, known | overrides), options.protocol)
    recipe.check(config, data)
    return data, config


def _preset_or_any(recipe: Recipe, spec: str) -> str:
    preset = spec.partition(":")[0]
    try:
        recipe.defaults(preset)
    except ValueError:
        return "watch"
    return preset


def _require_writable(folder: Path) -> None:
    existing = folder.resolve()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"cannot write to {folder}: {existing} is not a folder that you may write to")


def _is_shown(record: EpochRecord, epochs: int) -> bool:
    return record.epoch in (1, epochs) or record.epoch % max(epochs // _NUM_LINES, 1) == 0


def _line(spec: StageSpec, record: EpochRecord, epochs: int, select: Selection | None) -> str:
    words = (
        f"{spec.name} {record.epoch:>{len(str(epochs))}}/{epochs}  loss {record.metrics['loss/total']:.4f}"
    )
    if select is not None:
        words += f"  {select.split} {select.metric} {record.metrics[f'{select.split}/{select.metric}']:.2f}"
    return words + ("  (from the checkpoint)" if record.replayed else f"  {record.seconds:.2f} s")


def _print_metrics(metrics: Mapping[str, float], title: str) -> None:
    print(f"\n{title}")
    for name, value in metrics.items():
        print(f"  {name:<14}{value:7.2f}")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2) + "\n"

    def write(file: Any) -> None:
        file.write(text.encode())

    atomic_write(path, write)
