"""The agenda as Ray Tune sees it: hands out attempts, hears of them, and finds out why they died."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import ray
from ray import cloudpickle
from ray.exceptions import RayActorError
from ray.tune.experiment import Trial

from study.agenda import Agenda
from study.failures import PolicyKind
from study.fitness import changed_code
from study.job import Job, News
from study.phases import StudyError
from study.progress import show_duration
from study.spec import Resources
from study.stopping import Stops
from study.tune.deaths import Facts, explain
from study.tune.placement import draining_nodes, has_room, live_nodes, node_of_actor, nodes_that_stay

BEGUN: Final = "begun"  # first report of an attempt: where it runs
NEWS: Final = "news"

# A worker ends itself at its limit; if it could not, because its process or its host hangs, it is killed.
_OVERDUE_S: Final = 30.0
_LOOK_EVERY: Final = 50  # turns of Tune's loop
_FALSE_STARTS_ALLOWED: Final = 3
_FALSE_STARTS_OF_A_NODE: Final = 2
_WAITS_LONG_S: Final = 20.0

Waits = Callable[[str | None], None]


class StopNow(BaseException):
    """Gets out of Tune's loop, which would wait for the workers that are still starting."""


@dataclass
class _Attempt:
    """A hand-out of a trial to a worker, which may still have to start."""

    job: Job
    limit_s: float | None
    tune_trial: Trial | None = None
    host: str | None = None
    node: str | None = None
    began_s: float | None = None
    handed_s: float = field(default_factory=time.monotonic)
    is_choosy: bool = False  # asked for another node than those where its trial has failed
    has_ended: bool = False  # as the agenda knows
    is_killed: bool = False
    is_draining: bool = False  # its node is to go soon

    @property
    def ran_s(self) -> float | None:
        return None if self.began_s is None else time.monotonic() - self.began_s


class Execution:
    """One run of Tune over an agenda. Tune copies and pickles its hooks, but there is one of these.

    An error in a hook ends Tune at once and is kept: Tune would only pass on its text.
    """

    def __init__(
        self,
        agenda: Agenda,
        stops: Stops,
        concurrency: int,
        held: Sequence[Resources],
        limits_s: Sequence[float | None],
        waits: Waits,
    ) -> None:
        """Take what trials of each stage hold, and their limits; `waits` hears for what all of them wait."""
        self.error: Exception | None = None
        self.has_begun = False  # whether any worker has
        self.controller: Any = None  # Tune's own
        self._agenda = agenda
        self._stops = stops
        self._concurrency = concurrency
        self._held = held
        self._limits_s = limits_s
        self._waits = waits
        self._attempts: dict[str, _Attempt] = {}  # by Tune's id
        self._false_starts = 0  # workers in a row that died before they began
        self._false_starts_on: Counter[str] = Counter()  # likewise on each node
        self._turns = 0
        self._known = 0  # how many of Tune's trials have been seen
        self._is_over = False

    def __deepcopy__(self, memo: dict[int, Any]) -> "Execution":
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (object, ())  # for snapshots that nobody reads

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Keep an error for the caller of Tune; after a StudyError, what runs may still end."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error
            if not isinstance(error, StudyError):
                self._stop_now()

    @property
    def hands_out(self) -> bool:
        """Whether there is, or may later be, another attempt to start."""
        agenda = self._agenda
        return not (self._is_over or self.error or agenda.done or agenda.stopping is not None)

    @property
    def has_stopped(self) -> bool:
        """Whether only attempts are left that have not begun, and are not to."""
        stops = self.error is not None or self._agenda.stopping is not None
        return stops and all(attempt.began_s is None for attempt in self._attempts.values())

    def has_worker(self, tune_trial: Trial) -> bool:
        """Whether a trial has a worker, which may still be starting."""
        actor = self.controller._trial_to_actor.get(tune_trial)
        return actor is not None and bool(self.controller._actor_manager.is_actor_started(actor))

    def has_free_worker(self, tune_trial: Trial) -> bool:
        """Whether a worker that could run a trial has nothing to do."""
        cache = self.controller._actor_cache
        return cache.num_cached_objects > 0 and bool(
            cache.has_cached_object(tune_trial.placement_group_factory)
        )

    def next_job(self, tune_id: str) -> Job | None:
        """Return the next attempt to start, if there is one and a slot for it."""
        if not self.hands_out or len(self._attempts) >= self._concurrency:
            return None
        job = self._agenda.next_job()
        if job is not None:
            limit_s = self._limits_s[job.stage] if self._limits_s else None
            choosy = bool(job.avoid) and has_room(self._held[job.stage], job.avoid, nodes_that_stay())
            self._attempts[tune_id] = _Attempt(job, limit_s, is_choosy=choosy)
        elif not self._attempts and self.hands_out:
            # Waiting would never end: nothing runs that could make room for what is pending.
            raise StudyError("nothing runs and nothing can start: a bug, please report it")
        return job

    def take(self, tune_id: str, result: Mapping[str, Any]) -> bool:
        """Hear what an attempt reports; return True if it is to stop."""
        attempt = self._attempts.get(tune_id)
        if attempt is None:
            return True
        if BEGUN in result:
            attempt.began_s = time.monotonic()
            attempt.host, attempt.node = result[BEGUN]["host"], result[BEGUN]["node"]
            self._false_starts, self.has_begun = 0, True
            self._false_starts_on.pop(str(attempt.node), None)
            stops = self._agenda.stopping is not None
            if not stops and attempt.node in draining_nodes():
                self._leave(attempt)  # a worker that was there before; Ray starts no new one on such a node
        else:
            news: News = result[NEWS]
            if news.kind == "node_unfit" and (change := changed_code()) is not None:
                # Each worker that starts from now on, wherever our code is sent, would be as unfit.
                self._agenda.stop(change)
            stops = self._agenda.take(news)
            attempt.has_ended |= news.result is not None or news.failure is not None
        attempt.has_ended |= stops
        return stops

    def ended(self, tune_id: str) -> None:
        """Note that the function of an attempt has returned, or that it was stopped."""
        attempt = self._attempts.pop(tune_id, None)
        if attempt is not None and attempt.began_s is not None:
            self._false_starts = 0
        if attempt is not None and attempt.tune_trial is not None:
            # Nobody asks for them, and a study may have 50 000 trials.
            attempt.tune_trial.run_metadata.metric_analysis.clear()
            attempt.tune_trial.run_metadata.metric_n_steps.clear()
        if attempt is not None and not attempt.has_ended and not self._is_over:
            self._died(attempt, "worker_killed", "its worker gave up without a word")

    def failed(self, tune_trial: Trial) -> None:
        """Find out why an attempt died, and tell the agenda."""
        attempt = self._attempts.pop(tune_trial.trial_id, None)
        if attempt is None or self._is_over:
            return
        error, hosts = _error_of(tune_trial), {n["NodeID"]: n["NodeManagerHostname"] for n in live_nodes()}
        if attempt.began_s is None and isinstance(error, RayActorError):
            attempt.node = node_of_actor(error.actor_id)
            attempt.host = hosts.get(attempt.node)
        node_alive = attempt.node is None or attempt.node in hosts
        facts = Facts(attempt.host, node_alive, attempt.ran_s, attempt.limit_s, attempt.is_draining)
        death = explain(error, facts)
        if attempt.began_s is None and death.kind == "worker_killed":
            self._started_in_vain(attempt, death.message)
        else:
            self._died(attempt, death.kind, death.message)

    def _started_in_vain(self, attempt: _Attempt, message: str) -> None:
        """Keep trials away from a node that starts no worker; raise StudyError if none starts anywhere."""
        self._false_starts += 1
        on = self._false_starts_on
        on.update([attempt.node] if attempt.node else [])
        is_broken = attempt.node is not None and on[attempt.node] >= _FALSE_STARTS_OF_A_NODE
        self._died(attempt, "node_unfit" if is_broken else "worker_killed", message)
        trains = any(other.began_s is not None for other in self._attempts.values())
        elsewhere = attempt.node and has_room(self._held[attempt.job.stage], list(on), nodes_that_stay())
        if self._false_starts >= _FALSE_STARTS_ALLOWED and not trains and not elsewhere:
            raise StudyError(f"{self._false_starts} workers in a row could not start: {message}")

    def bury_all(self, message: str) -> None:
        """Tell the agenda that all attempts have died, because Tune has."""
        for attempt in self._attempts.values():
            self._died(attempt, "worker_killed", message)
        self._attempts.clear()

    def turn(self, tune_trials: Sequence[Trial]) -> None:
        """Do what has to be done in every turn of Tune's loop, about ten times a second."""
        if not self._is_over and self._stops.poll():
            self._stop_now()
        self._turns += 1
        if self._turns % _LOOK_EVERY == 0:
            self._look_at_nodes()
        if self._is_over:
            raise StopNow
        for tune_trial in tune_trials[self._known :]:
            if tune_trial.trial_id in self._attempts:
                self._attempts[tune_trial.trial_id].tune_trial = tune_trial
        self._known = len(tune_trials)
        for attempt in list(self._attempts.values()):
            self._look_after(attempt)

    def _look_after(self, attempt: _Attempt) -> None:
        tune_trial = attempt.tune_trial
        if tune_trial is None:
            return
        if tune_trial.status == Trial.ERROR:  # without a word: Tune could not reuse a worker for it
            self.failed(tune_trial)
            return
        ran_s, limit_s = attempt.ran_s, attempt.limit_s
        overdue = ran_s is not None and limit_s is not None and ran_s > limit_s + _OVERDUE_S
        if overdue and not attempt.is_killed:
            attempt.is_killed = True
            _kill(tune_trial)

    def _look_at_nodes(self) -> None:
        if not live_nodes():
            self.error = StudyError("no node of the Ray cluster is left; the same command continues")
            self._stop_now()
            return
        draining, nodes = draining_nodes(), nodes_that_stay()
        for tune_id, attempt in list(self._attempts.items()):
            attempt.is_draining |= attempt.node in draining
            job, tune_trial = attempt.job, attempt.tune_trial
            waits_elsewhere = attempt.is_choosy and attempt.began_s is None and tune_trial is not None
            if waits_elsewhere and not has_room(self._held[job.stage], job.avoid, nodes):
                # Ray would wait for another node for ever.
                del self._attempts[tune_id]
                self._died(attempt, "node_lost", "all nodes were lost but those where it had failed")
                self.controller.stop_trial(tune_trial)
        self._tell_of_waiting()

    def _tell_of_waiting(self) -> None:
        waiting = [attempt for attempt in self._attempts.values() if attempt.began_s is None]
        since_s = min((attempt.handed_s for attempt in waiting), default=time.monotonic())
        waits_s = time.monotonic() - since_s
        if len(waiting) < len(self._attempts) or waits_s < _WAITS_LONG_S:
            self._waits(None)
            return
        asked = Counter(f"{held.cpus} CPU, {held.gpus:g} GPU" for held in self._held_by(waiting))
        shares = " and ".join(f"{count} × ({share})" for share, count in asked.items())
        self._waits(f"waiting for nodes since {show_duration(waits_s)}: the trials ask for {shares}")

    def _held_by(self, attempts: Sequence[_Attempt]) -> Iterator[Resources]:
        return (self._held[attempt.job.stage] for attempt in attempts)

    def _leave(self, attempt: _Attempt) -> None:
        """Give up an attempt that has just begun on a node that is to go, with its worker."""
        attempt.is_draining = attempt.is_killed = True
        if attempt.tune_trial is not None:
            _kill(attempt.tune_trial)

    def _stop_now(self) -> None:
        """Kill what runs; workers that are still starting end with the connection to Ray."""
        self._is_over = True
        for attempt in self._attempts.values():
            if attempt.tune_trial is not None:
                _kill(attempt.tune_trial)

    def _died(self, attempt: _Attempt, kind: PolicyKind, message: str) -> None:
        job = attempt.job
        self._agenda.died(job.trial, job.attempt, kind, message, attempt.host, attempt.node)


def _kill(tune_trial: Trial) -> None:
    actor = tune_trial.temporary_state.ray_actor
    if actor is not None:
        ray.kill(actor)


def _error_of(tune_trial: Trial) -> BaseException | str:
    if tune_trial.pickled_error_file is not None:
        error: BaseException = cloudpickle.loads(Path(tune_trial.pickled_error_file).read_bytes())
        return error
    return Path(tune_trial.error_file).read_text(encoding="utf-8")
