"""Ray Tune as the executor of an agenda.

The agenda decides and the ledger remembers; Tune places trials on the cluster, restarts them when a worker
dies, and carries their news. Its own snapshots are never used: every launch is a fresh Tuner over the ledger.
"""

import dataclasses
import logging
import shutil
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ray import tune
from ray.tune import FailureConfig, RunConfig, Stopper, TuneConfig
from ray.tune.search import Searcher

from study.agenda import Agenda
from study.job import Job, News, Setup
from study.phases import StudyError
from study.spec import Resources
from study.trial import run_trial

_NEWS = "news"
_WORKER_DEATHS_ALLOWED = 3


def run_agenda(
    agenda: Agenda, setup: Setup, resources: Mapping[str, Resources], stages: list[str], concurrency: int
) -> None:
    """Run the trials of an agenda until it is done or the user interrupts.

    `resources` says what a trial of each stage holds; at most `concurrency` trials run at once.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # the study reports failures itself
    # In the study's folder, where the next launch clears what a killed one has left.
    folder = setup.out / ".tune"
    shutil.rmtree(folder, ignore_errors=True)
    executor = _Executor(agenda, concurrency)

    def resources_of(config: Mapping[str, Any]) -> tune.PlacementGroupFactory:
        held = resources[stages[config["job"]["stage"]]]
        return tune.PlacementGroupFactory([{"CPU": held.cpus, "GPU": held.gpus}])

    tuner = tune.Tuner(
        tune.with_resources(_trainable, resources_of),
        param_space={"setup": dataclasses.asdict(setup)},
        tune_config=TuneConfig(
            search_alg=_AgendaSearcher(executor),
            num_samples=-1,
            # Our own searcher holds trials back, so Tune needs no limit; a worker serves trial after trial.
            reuse_actors=True,
        ),
        run_config=RunConfig(
            storage_path=str(folder),
            name="trials",
            stop=_AgendaStopper(executor),
            # Tune itself retries a trial only if its worker dies at the right moment; the agenda always does.
            failure_config=FailureConfig(max_failures=0),
            verbose=0,
        ),
    )
    try:
        tuner.fit()
        if executor.error is not None:
            raise executor.error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _trainable(config: dict[str, Any]) -> None:
    def report(news: News) -> None:
        tune.report({_NEWS: dataclasses.asdict(news)})

    setup = Setup(**config["setup"])
    run_trial(Job(**config["job"]), setup, report)


class _Executor:
    """The agenda as Tune's hooks see it; Tune copies its hooks, but there is one agenda."""

    def __init__(self, agenda: Agenda, concurrency: int) -> None:
        self.agenda = agenda
        self.concurrency = concurrency
        self.running: dict[str, int] = {}  # Tune's id -> trial of the ledger
        self.deaths: Counter[int] = Counter()  # of the workers of a trial
        self.error: StudyError | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Executor":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Tune pickles its hooks into snapshots that nobody reads.
        return (object, ())


class _AgendaSearcher(Searcher):
    """Hands Tune the agenda's next trial, and the agenda the trials that ended without a word."""

    def __init__(self, executor: _Executor) -> None:
        super().__init__()
        self._executor = executor

    def suggest(self, trial_id: str) -> Any:
        executor = self._executor
        if len(executor.running) >= executor.concurrency:
            return None
        try:
            job = executor.agenda.next_job()
        except StudyError as error:
            executor.error = error
            return Searcher.FINISHED
        if job is None:
            if not executor.running and not executor.agenda.done:
                # Waiting would never end: nothing runs that could make room for what is pending.
                executor.error = StudyError("nothing runs and nothing can start: a bug, please report it")
                return Searcher.FINISHED
            return Searcher.FINISHED if executor.agenda.done else None
        executor.running[trial_id] = job.trial
        return {"job": dataclasses.asdict(job)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self._executor.running.pop(trial_id, None)
        if trial is None or not error:
            return
        deaths = self._executor.deaths
        deaths[trial] += 1
        if deaths[trial] <= _WORKER_DEATHS_ALLOWED:
            self._executor.agenda.put_back(trial)
        else:
            failure = f"its worker process died, or could not start, {deaths[trial]} times"
            self._executor.agenda.end(trial, "failed", failure=failure)

    def save(self, checkpoint_path: str) -> None:
        """Keep nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: the ledger is the state."""


class _AgendaStopper(Stopper):
    """Carries every result to the agenda, which may stop the trial."""

    def __init__(self, executor: _Executor) -> None:
        self._executor = executor

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        if _NEWS not in result or result.get("done"):
            return False
        return self._executor.agenda.take(News(**result[_NEWS]))

    def stop_all(self) -> bool:
        return False
