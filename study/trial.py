"""Run one trial: build its stage, train it from its last checkpoint, evaluate, leave its files.

Plain Python: it runs in a Ray worker and, unchanged, in a test without Ray. All it needs is in its arguments
and all it has to say goes through `report`. Its files are whole or absent, and an attempt that a later one
has followed writes no more.
"""

import faulthandler
import functools
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ftcl.data import VideoDataset
from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure
from ftcl.recipes.protocol import holds_out, selection_split, with_protocol
from ftcl.training import Evaluation, ForeignCheckpoint, Run, Stage, fit
from ftcl.training.device import choose_device
from study.checkpoints import AttemptCheckpoints, Fenced
from study.curves import Curves
from study.diagnosis import diagnose
from study.fitness import missing_gpu, other_software
from study.job import Job, News, Setup
from study.pretrain import load_export, write_export
from study.records import crash_name, curves_folder, details_name, predictions_name, write_predictions
from study.staging import NodeUnfit, open_data
from study.store import Store, open_store

Report = Callable[[News], None]
_UNSCORED_EVERY_S = 1.0  # epochs without a score, which nobody watches, are reported together for this long


def run_trial(job: Job, setup: Setup, report: Report, *, node: str | None = None) -> None:
    """Run a trial to its end; the last news says how it ended, the first of a later attempt where it goes on.

    An error is told as the attempt's failure, with its kind. An attempt without an end is one whose process
    died, which is also what becomes of one that exceeds its time. Raises Fenced if a later attempt of the
    trial has begun: nobody waits for this one any more. `node` is told with all news.
    """

    def tell(**words: Any) -> None:
        report(News(job.trial, job.attempt, socket.gethostname(), node, **words))

    untold: dict[int, Mapping[str, float]] = {}  # epochs that have ended
    try:
        store = open_store(setup.out, patient=True)
        with _time_limit(job, setup, store):
            attempt = _Attempt(job, setup, store, tell, untold)
            result = attempt.run()
    except Fenced:
        raise
    except Exception as error:
        # A stop by the scheduler arrives as SystemExit or a thread's end, which are no Exception.
        kind, message = diagnose(error)
        if kind == "code_error":
            name = crash_name(job.trial, job.attempt)
            with suppress(Exception):
                store.write(name, "".join(traceback.format_exception(error)).encode())
                message += f", see {name}"
        tell(epochs=untold, failure=message, kind=kind)
    else:
        tell(epochs=untold, result=result)
        # Not before: until the result is on record, an earlier state may still be needed.
        with suppress(OSError, Fenced):
            attempt.checkpoints.keep_newest()


class _Attempt:
    """One attempt of a trial, from its last checkpoint to its result, which goes with what is `untold`."""

    def __init__(
        self,
        job: Job,
        setup: Setup,
        store: Store,
        tell: Callable[..., None],
        untold: dict[int, Mapping[str, float]],
    ) -> None:
        self._job, self._setup, self._store = job, setup, store
        self._tell, self._untold = tell, untold
        self._clock = _Clock(setup.gpus[job.stage])
        if trouble := other_software(setup.software) or missing_gpu(setup.gpus[job.stage]):
            raise NodeUnfit(trouble)
        self._device = choose_device()
        torch.set_num_threads(setup.num_threads)
        if setup.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what torch asks for on a GPU
        torch.use_deterministic_algorithms(setup.deterministic)
        self.checkpoints = AttemptCheckpoints(store, job.run_key, job.attempt, keep=setup.keep)
        self._recipe = RECIPES[setup.recipe]
        self._spec = self._recipe.stages[job.stage]
        self._split = selection_split(self._spec, setup.protocol)
        self._data = _open_data(
            setup.data, setup.fold, setup.data_seed, holds_out(setup.protocol), setup.fingerprint
        )

    def run(self) -> dict[str, Any]:
        job, checkpoints = self._job, self.checkpoints
        stage, run = self._begin()
        suffix = f".{job.run_key}.{checkpoints.fence:04}"
        with Curves(self._store, curves_folder(job.trial), suffix) as curves:
            by_epoch = self._train(stage, run, curves)
            epoch, weights = run.chosen()
            stage.load_export(weights)
            metrics = self._score(stage, by_epoch.get(epoch, {}))
            checkpoints.require_newest()
            curves.add_settings({**job.tags, **job.parameters}, metrics)
            curves.flush()
        export = None
        if job.export_key is not None:
            export = write_export(self._store, job.export_key, job.attempt, weights)
        return {
            "metrics": metrics,
            "chosen_epoch": epoch,
            "last_lap": self._clock.lap(),
            "export": export,
            "checkpoint": checkpoints.folder,
            "environment": {"device": self._device.type, "num_threads": self._setup.num_threads},
            "notes": checkpoints.notes,
        }

    def _begin(self) -> tuple[Stage, Run]:
        job, setup, recipe = self._job, self._setup, self._recipe
        config = with_protocol(configure(recipe, self._data.preset, job.parameters), setup.protocol)
        init = None if job.init is None else load_export(self._store, job.init)
        split, metric = self._split, setup.metric
        select = None if split is None else (metric, recipe.metrics[metric], split)

        def attempt() -> tuple[Stage, Run]:
            stage = self._spec.build(config, self._data, self._device, job.seed, init)
            return stage, fit(stage, checkpoints=self.checkpoints, select=select, every=setup.every)

        try:
            stage, run = attempt()
        except ForeignCheckpoint as error:
            # It started from a pretrained model that has been made anew since, for one.
            self.checkpoints.discard()
            self.checkpoints.notes.append(f"checkpoints are deleted: {error}")
            stage, run = attempt()
        if job.attempt == 1 and run.resumed_epoch == 0:
            _clear(self._store, job.trial)
        return stage, run

    def _train(self, stage: Stage, run: Run, curves: Curves) -> dict[int, dict[str, float]]:
        """Return the scores of each epoch."""
        by_epoch: dict[int, dict[str, float]] = {}
        told_at_s, every_s = time.monotonic(), self._setup.report_every_s
        if self._split is None:
            every_s = max(every_s, _UNSCORED_EVERY_S)
        if run.resumed_epoch == 0 and self._job.attempt > 1:
            self._tell(resumed_epoch=0)
        for record in run:
            by_epoch[record.epoch] = {k: v for k, v in record.metrics.items() if not k.startswith("loss/")}
            self._untold[record.epoch] = record.metrics | (self._clock.lap() if not record.replayed else {})
            curves.add_epoch(record)
            resumed = record.epoch if record.epoch == run.resumed_epoch else None
            waited_s = time.monotonic() - told_at_s
            is_due = self._job.tells(record.epoch, stage.epochs, waited_s, every_s)
            if resumed or (is_due and not record.replayed):
                self.checkpoints.require_newest()
                curves.flush()
                self._tell(epochs=dict(self._untold), resumed_epoch=resumed)
                self._untold.clear()
                told_at_s = time.monotonic()
        return by_epoch

    def _score(self, stage: Stage, metrics: dict[str, float]) -> dict[str, float]:
        """Return the metrics of the chosen epoch, with those of the splits that are still to be scored."""
        setup = self._setup
        for name in self._splits_to_score():
            is_test = self._job.test and name == "test"
            if is_test or not any(metric.startswith(f"{name}/") for metric in metrics):
                evaluation = stage.evaluate(name, detail_videos=setup.detail_videos if is_test else ())
                metrics |= {f"{name}/{metric}": value for metric, value in evaluation.metrics.items()}
                if is_test:
                    self.checkpoints.require_newest()
                    _write_evaluation(self._store, self._job.trial, evaluation)
        return metrics

    def _splits_to_score(self) -> list[str]:
        """Validation if there are videos for it, what epochs are chosen on, and test for a final result."""
        has_validation = bool(self._data.splits["validation"])
        wanted = {"validation": has_validation, "test": self._job.test or self._split == "test"}
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


@contextmanager
def _time_limit(job: Job, setup: Setup, store: Store) -> Iterator[None]:
    """End the process when an attempt exceeds its time, wherever it hangs, and leave where that was.

    The traces lie in the study's folder or, since nothing can be uploaded any more, in the machine's own for
    temporary files.
    """
    seconds = setup.max_seconds[job.stage] if setup.max_seconds else None
    if seconds is None:
        yield
        return
    folder = store.local or Path(tempfile.gettempdir()) / f"study-{job.run_key}"
    path = folder / crash_name(job.trial, job.attempt)
    path.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, job.attempt):
        _delete_if_empty(folder / crash_name(job.trial, attempt))
    with path.open("w") as trace:
        faulthandler.dump_traceback_later(seconds, exit=True, file=trace)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            path.unlink(missing_ok=True)


def _delete_if_empty(path: Path) -> None:
    """Delete what an attempt left that was killed before its time was up."""
    with suppress(FileNotFoundError):
        if path.stat().st_size == 0:
            path.unlink()


@functools.lru_cache(maxsize=2)
def _open_data(spec: str, fold: int, seed: int, hold_out: bool, fingerprint: str) -> VideoDataset:
    # A worker runs many trials.
    return open_data(spec, fold=fold, seed=seed, hold_out=hold_out, fingerprint=fingerprint)


def _clear(store: Store, trial: int) -> None:
    """Delete what lies under a number that the ledger has given out before, and forgotten with its tail."""
    store.delete(predictions_name(trial))
    store.delete(details_name(trial))
    store.delete_folder(curves_folder(trial))


def _write_evaluation(store: Store, trial: int, evaluation: Evaluation) -> None:
    found = evaluation.detections
    columns = {
        "video": np.array(found.videos, dtype=object)[found.video],
        "label": np.array(found.classes, dtype=object)[found.label],
        "start_s": found.start_s,
        "end_s": found.end_s,
        "score": found.score,
    }
    write_predictions(store, predictions_name(trial), columns)
    arrays: dict[str, Any] = {
        f"{name}/{kind}": array for name, kinds in evaluation.details.items() for kind, array in kinds.items()
    }
    store.write_with(details_name(trial), lambda file: np.savez_compressed(file, **arrays))
