"""Trials that do what their parameters say, and an agenda that writes down what it is told."""

import ctypes
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from study.failures import FailureKind
from study.job import Job, News, Setup

Report = Callable[[News], None]


def play(job: Job, setup: Setup, report: Report, *, node: str | None) -> None:
    """Run a scripted trial: each epoch takes `epoch_s`; `does` happens in the second epoch of attempt 1."""
    script = job.parameters

    def tell(**content: Any) -> None:
        report(News(job.trial, job.attempt, host=str(os.getpid()), node=node, **content))

    limit_s = setup.max_seconds[job.stage] if setup.max_seconds else None
    if limit_s is not None and script.get("does") != "stop":
        faulthandler.dump_traceback_later(limit_s, exit=True, file=open(os.devnull, "w"))  # noqa: SIM115
    for epoch in range(1, script.get("epochs", 3) + 1):
        if epoch == 2 and job.attempt <= script.get("attempts", 1):
            _do(script.get("does"))
        if script.get("does") == "return":
            return
        time.sleep(script.get("epoch_s", 0.05))
        tell(epochs={epoch: {"loss": 1.0 / epoch}})
    faulthandler.cancel_dump_traceback_later()
    tell(result={"metrics": {}})


def _do(what: str | None) -> None:
    match what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "exit":
            os._exit(3)
        case "crash":
            ctypes.string_at(0)
        case "hang":
            time.sleep(600)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "allocate":
            # Random, which no system can compress; repeated, as a worker of low priority gets little CPU.
            blocks, noise = [], os.urandom(1_000_000)
            while True:
                blocks.append(noise * 50)
                time.sleep(0.02)


class Unloadable:
    """A trial that no other process can load."""

    def __call__(self, job: Job, setup: Setup, report: Report, *, node: str | None) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return (_load, (os.getpid(),))


def _load(pid: int) -> Unloadable:
    if os.getpid() != pid:
        raise ModuleNotFoundError("No module named 'seglearn'")
    return Unloadable()


class LoadableElsewhere:
    """`play`, which no process can load whose environment has BROKEN."""

    def __call__(self, job: Job, setup: Setup, report: Report, *, node: str | None) -> None:
        play(job, setup, report, node=node)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_load_elsewhere, ())


def _load_elsewhere() -> LoadableElsewhere:
    if "BROKEN" in os.environ:
        raise ModuleNotFoundError("No module named 'seglearn'")
    return LoadableElsewhere()


class LoadsSlowly:
    """`play`, which only the first process that loads it does at once; every other one takes `wait_s`."""

    def __init__(self, first: Path, wait_s: float) -> None:
        self.first, self.wait_s = first, wait_s

    def __call__(self, job: Job, setup: Setup, report: Report, *, node: str | None) -> None:
        play(job, setup, report, node=node)

    def __reduce__(self) -> tuple[Any, ...]:
        return (_load_slowly, (self.first, self.wait_s, os.getpid()))


def _load_slowly(first: Path, wait_s: float, pid: int) -> LoadsSlowly:
    if os.getpid() != pid:
        try:
            first.touch(exist_ok=False)
        except FileExistsError:
            time.sleep(wait_s)
    return LoadsSlowly(first, wait_s)


@dataclass
class ScriptedAgenda:
    """Hands out its jobs in order, and once more each time that one of them dies."""

    jobs: list[Job]
    attempts_allowed: int = 3
    stopping: str | None = None
    taken: list[News] = field(default_factory=list)
    deaths: list[tuple[int, int, FailureKind, str, str | None]] = field(default_factory=list)
    handed_out: dict[int, Job] = field(default_factory=dict)
    avoided: bool = False  # whether a trial is to keep away from where it died
    taken_at_stop: int | None = None

    @property
    def done(self) -> bool:
        return not self.jobs and not self.handed_out

    def next_job(self) -> Job | None:
        if not self.jobs or self.stopping is not None:
            return None
        job = self.jobs.pop(0)
        self.handed_out[job.trial] = job
        return job

    def take(self, news: News) -> bool:
        self.taken.append(news)
        if news.result is not None:
            del self.handed_out[news.trial]
        return self.stopping is not None

    def died(
        self,
        trial: int,
        attempt: int,
        kind: FailureKind,
        message: str,
        host: str | None = None,
        node: str | None = None,
    ) -> None:
        self.deaths.append((trial, attempt, kind, message, node))
        job = self.handed_out.pop(trial)
        if attempt < self.attempts_allowed:
            avoid = (node,) if self.avoided and node is not None else ()
            self.jobs.append(replace(job, attempt=attempt + 1, avoid=avoid))

    def stop(self, reason: str) -> None:
        if self.stopping is None:
            self.stopping, self.taken_at_stop = reason, len(self.taken)


def make_job(trial: int, **script: Any) -> Job:
    """Return a job that does what `script` says."""
    return Job(trial, 0, 0, script, None, None, test=False, run_key=str(trial))


def make_setup(out: str, limit_s: float | None = None) -> Setup:
    """Return a setup of which only the folder and the limit matter."""
    limits = () if limit_s is None else (limit_s,)
    return Setup(out, "", "", 0, 0, "", "default", "", False, (), 1, (0.0,), max_seconds=limits)
