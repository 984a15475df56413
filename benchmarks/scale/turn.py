"""What in a turn of Tune's loop grows: `python -m benchmarks.scale.turn`.

Tune handles one report in a turn. In each turn its own scheduler looks for a waiting trial among all trials
that there have been, ours among those that are not over; and Tune waits for the first of as many futures as
attempts run. Here the looks are done as they are, and the wait on the calls of one actor.
"""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

from benchmarks.scale.controller import surroundings
from benchmarks.scale.tables import append
from study.tune.environment import prepare_environment

_TURNS: Final = 200


class Sleeper:
    """An actor whose calls are still running, but for those of `report`."""

    async def run(self) -> None:
        """Never return."""
        await asyncio.Event().wait()

    async def report(self) -> None:
        """Return at once."""


def look_at_all(trials: int) -> float:
    """Return the milliseconds in which Tune's scheduler finds that none of so many trials waits."""
    from ray import tune
    from ray.tune.experiment import Trial
    from ray.tune.schedulers import FIFOScheduler

    tune.register_trainable("nothing", lambda config: None)
    known = [Trial("nothing", stub=True) for _ in range(trials)]
    for trial in known:
        trial.set_status(Trial.TERMINATED)
    controller: Any = SimpleNamespace(get_trials=lambda: known)
    return _per_call(lambda: FIFOScheduler().choose_trial_to_run(controller))


def look_at_unfinished(running: int) -> float:
    """Return the milliseconds in which our scheduler finds that none of so many attempts waits."""
    from ray import tune
    from ray.tune.experiment import Trial

    from study.tune.execution import Execution
    from study.tune.run import _AgendaScheduler

    tune.register_trainable("nothing", lambda config: None)
    unused: Any = None
    scheduler = _AgendaScheduler(Execution(unused, unused, running, [], [], unused))
    for _ in range(running):
        trial = Trial("nothing", stub=True)
        trial.set_status(Trial.RUNNING)
        scheduler.on_trial_add(SimpleNamespace(_tune_controller=None), trial)
    return _per_call(lambda: scheduler.choose_trial_to_run(None))


def wait_for_first(running: int) -> float:
    """Return the milliseconds in which the one report that is there is found among so many attempts."""
    import ray

    actor = ray.remote(Sleeper).options(max_concurrency=running + 1).remote()
    futures = {actor.run.remote() for _ in range(running - 1)}
    ray.get(actor.report.remote())
    spent_s = 0.0
    for _ in range(_TURNS):
        report = actor.report.remote()
        ray.wait([report])
        began_s = time.thread_time()
        shuffled = list({*futures, report})
        random.shuffle(shuffled)
        ray.wait(shuffled, num_returns=1, timeout=0.1)
        spent_s += time.thread_time() - began_s
    ray.kill(actor)
    return 1e3 * spent_s / _TURNS


def _per_call(call: Callable[[], Any]) -> float:
    began_s = time.thread_time()
    for _ in range(_TURNS):
        call()
    return 1e3 * (time.thread_time() - began_s) / _TURNS


def main() -> int:
    """Measure both at several sizes, and append a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, nargs="*", default=[1000, 10000, 50000])
    parser.add_argument("--running", type=int, nargs="*", default=[10, 64, 250, 500, 1000])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "turn.csv")
    arguments = parser.parse_args()
    prepare_environment(None)
    from study.tune.cluster import connect

    def measure(what: str, how: Callable[[int], float], sizes: list[int]) -> None:
        for size in sizes:
            row = {"what": what, "size": size, "cpu_ms": round(how(size), 3), **surroundings()}
            print(row, flush=True)
            append(arguments.out, [row])

    measure("look at all trials", look_at_all, arguments.trials)
    measure("look at unfinished attempts, as the study does", look_at_unfinished, arguments.running)
    if arguments.running:
        with connect(None, local_cpus=1):
            measure("wait for the first report", wait_for_first, arguments.running)
    return 0


if __name__ == "__main__":
    sys.exit(main())
