"""What Ray Tune's own loop costs the driver, on real actors: `python -m benchmarks.scale.controller`.

Trials that train nothing report as fast as they can to a study's real agenda and ledger, or, `--bare`, to
nobody: Tune with a searcher that only counts. Measured from the moment at which 30 % of the trials have ended
until 90 % have, so that the start of the actors is not counted. The CPU time is that of the driver's process,
and of it that of the thread which runs Tune's loop, one event after the other. An actor holds one of the CPUs
that Ray is told of, however many the machine has: it does next to nothing.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks.scale.tables import append
from study.job import Job, News, Setup
from study.manifest import environment

_METRICS: Final = {f"metric/{index}": 1.0 + index for index in range(25)}


def run_nothing(
    job: Job, setup: Setup, report: Callable[[News], None], *, node: str | None, epochs: int
) -> None:
    """Do what a worker does (study.trial.run_trial), but for the work."""
    del setup
    for epoch in range(1, epochs + 1):
        report(News(job.trial, job.attempt, "host", node, epochs={epoch: _METRICS}))
    metrics = {"validation/mAP@0.1:0.7": 50.0 + job.trial % 7}
    result: dict[str, Any] = {"metrics": metrics, "last_lap": {}, "export": None}
    if job.export_key is not None:
        result["export"] = "pretrained/nothing.pt"
    report(News(job.trial, job.attempt, "host", node, result=result))


@dataclass
class Clock:
    """When so many trials had ended, and what the driver had used of its CPU until then."""

    trials: int
    epochs: int
    ended: int = 0
    marks: list[tuple[int, float, float, float, int]] = field(default_factory=list)

    def tick(self) -> None:
        """Count an ended trial."""
        self.ended += 1
        if self.ended in (int(0.3 * self.trials), int(0.9 * self.trials)):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            now_s, process_s, loop_s = time.monotonic(), time.process_time(), time.thread_time()
            self.marks.append((self.ended, now_s, process_s, loop_s, resident))

    def rates(self) -> dict[str, float]:
        """Return trials a second, and the driver's CPU time and memory for one."""
        trials, seconds, process_s, loop_s, held = (b - a for a, b in zip(*self.marks, strict=True))
        return {
            "trials_per_s": round(trials / seconds, 2),
            "reports_per_s": round(trials * (self.epochs + 2) / seconds, 1),
            "driver_cpu_ms_per_trial": round(1e3 * process_s / trials, 1),
            "driver_kb_per_trial": round(held / 1e3 / trials, 1),
            "loop_cpu_ms_per_trial": round(1e3 * loop_s / trials, 1),
            "loop_busy": round(loop_s / seconds, 3),
        }


def with_agenda(actors: int, trials: int, epochs: int, folder: Path) -> dict[str, float]:
    """Run a study whose trials do nothing."""
    from study.tune.environment import prepare_environment

    prepare_environment(None)
    from benchmarks.scale.driver import open_driver, plan_study
    from study.assembly import make_setup
    from study.spec import Resources
    from study.stopping import Stops
    from study.tune.cluster import connect
    from study.tune.run import run_agenda

    plan = plan_study(folder, trials, stops_early=False, sampler="random")
    clock = Clock(trials, epochs)
    own = [0.0, 0.0]
    with connect(None, local_cpus=actors), open_driver(plan, actors) as driver:
        agenda = driver.agenda
        plan.store.write("pretrained/nothing.pt", b"")
        take, next_job = agenda.take, agenda.next_job

        def timed_take(news: News) -> bool:
            began_s = time.thread_time()
            stops = take(news)
            own[len(clock.marks) == 1] += time.thread_time() - began_s
            if news.result is not None:
                clock.tick()
            return stops

        def timed_next_job() -> Job | None:
            began_s = time.thread_time()
            job = next_job()
            own[len(clock.marks) == 1] += time.thread_time() - began_s
            return job

        agenda.take, agenda.next_job = timed_take, timed_next_job  # type: ignore[method-assign]
        stages = [stage.name for stage in plan.recipe.stages]
        with Stops(agenda) as stops:
            run_agenda(
                agenda,
                make_setup(plan, [0.0, 0.0], actors),
                {stage: Resources() for stage in stages},
                stages,
                actors,
                stops=stops,
                run=partial(run_nothing, epochs=epochs),
            )
        rates = clock.rates()
        counted = clock.marks[1][0] - clock.marks[0][0]
    return {**rates, "of_it_agenda_ms": round(1e3 * own[True] / counted, 1)}


def without_agenda(actors: int, trials: int, epochs: int, folder: Path) -> dict[str, float]:
    """Run Tune with a searcher that counts, and nothing that listens."""
    from study.tune.environment import prepare_environment

    prepare_environment(None)
    from ray import tune
    from ray.tune.search import Searcher

    from study.tune.cluster import connect

    clock = Clock(trials, epochs)

    class Counting(Searcher):
        """Hands out numbers, as many at once as there are actors."""

        def __init__(self) -> None:
            super().__init__()
            self.given, self.running = 0, 0

        def suggest(self, trial_id: str) -> Any:
            if self.given >= trials:
                return Searcher.FINISHED
            if self.running >= actors:
                return None
            self.given += 1
            self.running += 1
            return {"job": dataclasses.asdict(Job(self.given, 1, 0, {}, None, None, False, "key"))}

        def on_trial_complete(
            self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
        ) -> None:
            self.running -= 1
            clock.tick()

        def save(self, checkpoint_path: str) -> None: ...

        def restore(self, checkpoint_path: str) -> None: ...

    def trainable(config: dict[str, Any]) -> None:
        job = Job(**config["job"])
        tune.report({"begun": {"host": "host", "node": "node"}})
        for epoch in range(1, epochs + 1):
            tune.report({"news": News(job.trial, 1, "host", epochs={epoch: _METRICS})})
        tune.report({"news": News(job.trial, 1, "host", result=_METRICS)})

    with connect(None, local_cpus=actors):
        tune.Tuner(
            tune.with_resources(trainable, tune.PlacementGroupFactory([{"CPU": 1}])),
            tune_config=tune.TuneConfig(search_alg=Counting(), num_samples=-1, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=str(folder / "tune"), name="trials", verbose=0),
        ).fit()
    return clock.rates()


def main() -> int:
    """Measure with so many actors at once, each time in a process of its own."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--actors", type=int, nargs="+", default=[2, 8, 32])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=6, help="of a trial: it reports two times more")
    parser.add_argument("--bare", action="store_true", help="Tune without our agenda")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "controller.csv")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure = without_agenda if arguments.bare else with_agenda
        with tempfile.TemporaryDirectory() as folder:
            rates = measure(arguments.actors[0], arguments.trials, arguments.epochs, Path(folder))
        print(json.dumps(rates))
        return 0
    for actors in arguments.actors:
        command = [sys.executable, "-m", "benchmarks.scale.controller", "--one", "--actors", str(actors)]
        command += ["--trials", str(arguments.trials), "--epochs", str(arguments.epochs)]
        command += ["--bare"] if arguments.bare else []
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rates = json.loads(done.stdout.splitlines()[-1])
        row = {"actors": actors, "trials": arguments.trials, "agenda": not arguments.bare, **rates}
        row |= {"epochs": arguments.epochs, **surroundings()}
        print(row, flush=True)
        append(arguments.out, [row])
    return 0


def surroundings() -> dict[str, Any]:
    """Return machine, its load of the last minute, and versions, as columns."""
    here = environment()
    versions = {name: here["versions"][name] for name in ("python", "ray")}
    return {
        **versions,
        "cpu": here["hardware"]["cpu"],
        "cores": here["hardware"]["cores"],
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    sys.exit(main())
