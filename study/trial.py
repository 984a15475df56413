"""Run one trial: build its stage, train it from its last checkpoint, evaluate, leave its files.

Plain Python: it runs in a Ray worker and, unchanged, in a test without Ray. All it needs is in its arguments
and all it has to say goes through `report`. The files that it writes are named by its trial number (an export
by its key) and are whole or absent.
"""

import functools
import os
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ftcl.data import VideoDataset, load_dataset
from ftcl.files import atomic_write
from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure
from ftcl.recipes.protocol import holds_out, selection_split, with_protocol
from ftcl.training.checkpoint import load_checkpoint, save_checkpoint
from ftcl.training.device import choose_device
from ftcl.training.fit import chosen, fit
from ftcl.training.stage import Evaluation
from study.curves import Curves
from study.job import Job, News, Setup
from study.pretrain import export_path
from study.records import checkpoint_path, curves_path, details_path, predictions_path, write_predictions

Report = Callable[[News], None]
_REPORT_EVERY_S = 1.0  # epochs that decide nothing are reported together for this long


def run_trial(job: Job, setup: Setup, report: Report) -> None:
    """Run a trial to its end; the last news says how it ended.

    An error of the method or its input (a non-finite loss, a checkpoint that does not fit) is reported as the
    trial's failure, since running it again would fail again. Only a dying process leaves a trial without an
    end.
    """
    try:
        result = _run(job, setup, report)
    except Exception as error:
        # A stop by the scheduler arrives as SystemExit or a thread's end, which are no Exception.
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(last.filename).name}:{last.lineno}"
        report(News(job.trial, socket.gethostname(), failure=f"{type(error).__name__}: {error} ({place})"))
    else:
        report(News(job.trial, socket.gethostname(), result=result))


def _run(job: Job, setup: Setup, report: Report) -> dict[str, Any]:
    torch.set_num_threads(setup.num_threads)
    if setup.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch asks for on a GPU
    torch.use_deterministic_algorithms(setup.deterministic)
    clock = _Clock(setup.gpus[job.stage])
    data = _open_data(setup.data, setup.fold, setup.data_seed, holds_out(setup.protocol), setup.fingerprint)
    recipe = RECIPES[setup.recipe]
    config = with_protocol(configure(recipe, data.preset, job.parameters), setup.protocol)
    spec = recipe.stages[job.stage]
    init = None if job.init_key is None else load_checkpoint(export_path(setup.out, job.init_key))
    stage = spec.build(config, data, choose_device(), job.seed, init)
    split = selection_split(spec, setup.protocol)
    checkpoint = checkpoint_path(setup.out, job.trial)
    select = None if split is None else (setup.metric, recipe.metrics[setup.metric], split)

    news: dict[int, Mapping[str, float]] = {}
    by_epoch: dict[int, dict[str, float]] = {}
    with Curves(curves_path(setup.out, job.trial)) as curves:
        told_at_s = time.monotonic()
        for record in fit(stage, checkpoint=checkpoint, select=select):
            by_epoch[record.epoch] = {k: v for k, v in record.metrics.items() if not k.startswith("loss/")}
            news[record.epoch] = record.metrics | (clock.lap() if not record.replayed else {})
            curves.add_epoch(record)
            if record.epoch == stage.epochs or select or time.monotonic() - told_at_s >= _REPORT_EVERY_S:
                report(News(job.trial, socket.gethostname(), epochs=news))
                news, told_at_s = {}, time.monotonic()

        epoch, weights = chosen(checkpoint)
        stage.load_export(weights)
        metrics = by_epoch.get(epoch, {})
        for name in _splits_to_score(job, split, data):
            is_test = job.test and name == "test"
            if is_test or not any(metric.startswith(f"{name}/") for metric in metrics):
                evaluation = stage.evaluate(name, detail_videos=setup.detail_videos if is_test else ())
                metrics |= {f"{name}/{metric}": value for metric, value in evaluation.metrics.items()}
                if is_test:
                    _write_evaluation(setup.out, job.trial, evaluation)
        if job.export_key is not None:
            save_checkpoint(export_path(setup.out, job.export_key), weights)
        curves.add_settings({**job.tags, **job.parameters}, metrics)
    return {"metrics": metrics, "chosen_epoch": epoch, "last_lap": clock.lap()}


def _splits_to_score(job: Job, selected: str | None, data: VideoDataset) -> list[str]:
    """Validation if there are videos for it, what epochs are chosen on, and test for a final result only."""
    wanted = {"validation": bool(data.splits["validation"]), "test": job.test or selected == "test"}
    return [name for name, is_wanted in wanted.items() if is_wanted]


class _Clock:
    """Counts what an attempt spends between laps."""

    def __init__(self, gpus: float) -> None:
        self._gpus = gpus
        self._wall_s, self._cpu_s = time.monotonic(), time.process_time()

    def lap(self) -> dict[str, float]:
        wall_s, cpu_s = time.monotonic(), time.process_time()
        spent = {"wall_s": wall_s - self._wall_s, "cpu_s": cpu_s - self._cpu_s}
        spent["gpu_s"] = self._gpus * spent["wall_s"]
        self._wall_s, self._cpu_s = wall_s, cpu_s
        return spent


@functools.lru_cache(maxsize=2)
def _open_data(spec: str, fold: int, seed: int, hold_out: bool, fingerprint: str) -> VideoDataset:
    # A worker runs many trials; the driver has verified the data before the first.
    return load_dataset(spec, fold=fold, seed=seed, hold_out=hold_out, verify=False, fingerprint=fingerprint)


def _write_evaluation(out: Path, trial: int, evaluation: Evaluation) -> None:
    found = evaluation.detections
    columns = {
        "video": np.array(found.videos, dtype=object)[found.video],
        "label": np.array(found.classes, dtype=object)[found.label],
        "start_s": found.start_s,
        "end_s": found.end_s,
        "score": found.score,
    }
    write_predictions(predictions_path(out, trial), columns)
    arrays: dict[str, Any] = {
        f"{name}/{kind}": array for name, kinds in evaluation.details.items() for kind, array in kinds.items()
    }
    atomic_write(details_path(out, trial), lambda file: np.savez_compressed(file, **arrays))
