"""Ray Tune as the executor of an agenda.

The agenda decides and the ledger remembers; Tune places attempts of trials on the cluster and carries their
news. Its own snapshots are never used: every launch is a fresh Tuner over the ledger.
"""

import dataclasses
import logging
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Protocol

import ray
from ray import tune
from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune import Callback, FailureConfig, RunConfig, Stopper, TuneConfig
from ray.tune.execution import tune_controller
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import Searcher

from study.agenda import Agenda
from study.job import Job, News, Setup
from study.phases import StudyError
from study.spec import Resources
from study.stopping import Stops
from study.store import open_store
from study.trial import Report, run_trial
from study.tune.execution import BEGUN, NEWS, Execution, StopNow, Waits
from study.tune.groups import SettledGroups
from study.tune.placement import request

_CRASHES_ALLOWED: Final = 3
_SCRATCH: Final = ".tune"

# Ray's memory monitor ends a worker with an error that Tune does not expect: it would give up all trials.
_DEATHS: Final = (RayActorError, OutOfMemoryError)
actor_manager.RayActorError = _DEATHS  # type: ignore[assignment, attr-defined]
tune_controller.RayActorError = _DEATHS  # type: ignore[assignment, attr-defined]
tune_controller.PlacementGroupResourceManager = SettledGroups  # type: ignore[attr-defined]


class RunTrial(Protocol):
    """What a worker does (study.trial.run_trial)."""

    def __call__(self, job: Job, setup: Setup, report: Report, *, node: str | None) -> None: ...


def run_agenda(
    agenda: Agenda,
    setup: Setup,
    resources: Mapping[str, Resources],
    stages: list[str],
    concurrency: int,
    *,
    stops: Stops,
    waits: Waits = lambda text: None,
    run: RunTrial = run_trial,
) -> None:
    """Run the trials of an agenda until it is done or stopped.

    `resources` says what a trial of each stage holds; at most `concurrency` trials run at once, or wait for
    their share of a node; `waits` is told when all of them have waited for long. Attempts that are given up
    stay open in the agenda, whose `close` puts them on record. Raises StudyError if the study cannot go on,
    and what the agenda raises, such as the OSError of a full disk.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the study reports failures itself
    crashes = 0
    while True:
        held = [resources[stage] for stage in stages]
        execution = Execution(agenda, stops, concurrency, held, setup.max_seconds, waits)
        try:
            with _scratch(setup) as folder, suppress(StopNow):
                _run_tune(execution, _trainable(run, setup), resources, stages, folder)
        except Exception as error:
            if execution.error is not None:
                raise execution.error from error
            crashes = 1 if execution.has_begun else crashes + 1
            reason = f"Ray Tune gave up: {str(error).strip().splitlines()[-1]}"
            if crashes >= _CRASHES_ALLOWED or not ray.is_initialized():
                raise StudyError(reason) from error
            execution.bury_all(reason)
        else:
            if execution.error is not None:
                raise execution.error
            return


@contextmanager
def _scratch(setup: Setup) -> Iterator[Path]:
    """Yield a folder for what Tune wants to keep; in a local study's own, the next launch clears it."""
    local = open_store(setup.out).local
    folder = Path(tempfile.mkdtemp(prefix="study-tune-")) if local is None else local / _SCRATCH
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run_tune(
    execution: Execution,
    trainable: Callable[[dict[str, Any]], None],
    resources: Mapping[str, Resources],
    stages: list[str],
    folder: Path,
) -> None:
    def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        job = config["job"]
        return request(resources[stages[job["stage"]]], job["avoid"])

    tune.Tuner(
        tune.with_resources(trainable, resources_of),
        tune_config=TuneConfig(
            search_alg=_AgendaSearcher(execution),
            scheduler=_AgendaScheduler(execution),
            num_samples=-1,
            # Our own searcher holds trials back, so Tune needs no limit; a worker serves trial after trial.
            reuse_actors=True,
        ),
        run_config=RunConfig(
            storage_path=str(folder),
            name="trials",
            stop=_AgendaStopper(execution),
            callbacks=[_AgendaCallback(execution)],
            # Another attempt is a decision of the agenda.
            failure_config=FailureConfig(max_failures=0),
            verbose=0,
        ),
    ).fit()


def _trainable(run: RunTrial, setup: Setup) -> Callable[[dict[str, Any]], None]:
    def trainable(config: dict[str, Any]) -> None:
        def report(news: News) -> None:
            # Whole: Tune keeps statistics of every number that it finds in a dictionary.
            tune.report({NEWS: news})

        node = ray.get_runtime_context().get_node_id()
        tune.report({BEGUN: {"host": socket.gethostname(), "node": node}})
        run(Job(**config["job"]), setup, report, node=node)

    return trainable


class _AgendaSearcher(Searcher):
    """Hands Tune the agenda's next attempt."""

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self._execution = execution

    def suggest(self, trial_id: str) -> Any:
        with self._execution.guard():
            job = self._execution.next_job(trial_id)
            if job is not None:
                return {"job": dataclasses.asdict(job)}
        return None if self._execution.hands_out else Searcher.FINISHED

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if not error:  # else the callback is told, with the reason
            with self._execution.guard():
                self._execution.ended(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger is the state."""


class _AgendaScheduler(FIFOScheduler):
    """Starts trials in order, and knows who can call one off that has not begun.

    A worker that becomes free goes to a trial that has no worker yet. Tune would give it to the first one
    that waits, and end the worker that starts for that one: where trials end more often than a worker takes
    to start, a node that has joined would never get its first.
    """

    def __init__(self, execution: Execution) -> None:
        super().__init__()
        self._execution = execution
        self._unfinished: dict[str, Trial] = {}

    def on_trial_add(self, tune_controller: Any, trial: Trial) -> None:
        # Without the wrapper, which takes eight times as long for each look.
        self._execution.controller = tune_controller._tune_controller
        self._unfinished[trial.trial_id] = trial

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        # Tune's own look goes through all trials that the study has had, in every turn.
        self._unfinished = {key: trial for key, trial in self._unfinished.items() if not trial.is_finished()}
        pending = (trial for trial in self._unfinished.values() if trial.status == Trial.PENDING)
        waiting = [trial for trial in pending if not self._execution.has_worker(trial)]
        return next(filter(self._execution.has_free_worker, waiting), next(iter(waiting), None))


class _AgendaStopper(Stopper):
    """Carries every result to the agenda, which may stop the trial."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if result.get("done"):
            return False
        with self._execution.guard():
            return self._execution.take(trial_id, result)
        return True

    def stop_all(self) -> bool:
        return self._execution.has_stopped


class _AgendaCallback(Callback):
    """Tells the agenda of deaths, and turns with Tune's loop."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        with self._execution.guard():
            self._execution.turn(trials)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        with self._execution.guard():
            self._execution.failed(trial)
