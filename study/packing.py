"""How many trials fit on one GPU: measured by running one of each stage, with the settings that need most.

Plain Python on a machine with a GPU. A stage's trial runs as always, for one epoch, in a process of its own
that then keeps what it holds while the GPU's free memory is read: so the CUDA context, the libraries' own
memory and what the allocator has reserved are all in the figure.
"""

import contextlib
import json
import pickle
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure, to_flat
from study.design import trial_parameters
from study.disk import show_bytes
from study.distributions import Setting
from study.job import Job, News, Setup
from study.plan import LaunchError, Plan
from study.spec import Resources
from study.trial import run_trial

_ROOT: Final = Path(__file__).resolve().parents[1]
_STAGE_LIMIT_S: Final = 600.0
# Left free: the allocator of a later epoch, or of another seed, may reserve a little more.
_RESERVE: Final = 0.05
_UNITS: Final = 10_000  # Ray counts shares in these


@dataclass(frozen=True)
class Probe:
    """What to run: the last trial of a study's chain of stages, one epoch each."""

    setup: Setup  # its `out` is not used
    parameters: Mapping[str, Setting]


@dataclass(frozen=True)
class Packing:
    """What trials take of a GPU. In bytes; `stages` in the order of the recipe."""

    gpu: str
    total: int
    free: int  # before the first trial
    stages: Mapping[str, int]

    def trials(self, stage: str, cpus_per_gpu: float, cpus: int) -> int:
        """Return how many trials of a stage fit at once, by memory and by the CPUs that go with the GPU."""
        by_memory = int((self.free - _RESERVE * self.total) // max(1, self.stages[stage]))
        return max(0, min(by_memory, int(cpus_per_gpu // cpus)))

    def shares(self, resources: Mapping[str, Resources], cpus_per_gpu: float) -> dict[str, float]:
        """Return the share of a GPU of each stage's trials, rounded so that as many fit.

        Raises LaunchError if the memory does not hold a single one.
        """
        found = {}
        for stage, taken in self.stages.items():
            trials = self.trials(stage, cpus_per_gpu, resources[stage].cpus)
            if taken > self.free:
                raise LaunchError(
                    f"one {stage} trial takes {show_bytes(taken)}, and the {self.gpu} has "
                    f"{show_bytes(self.free)} free: use a larger GPU, or lower its batch size"
                )
            found[stage] = _UNITS // max(1, trials) / _UNITS
        return found

    def __str__(self) -> str:
        taken = ", ".join(f"one {stage} trial takes {show_bytes(n)}" for stage, n in self.stages.items())
        return f"{self.gpu} with {show_bytes(self.total)}, {show_bytes(self.free)} free: {taken}"


class Gpu(Protocol):
    """A GPU that can say how much of it is free."""

    name: str
    total: int

    def free(self) -> int: ...


Hold = Callable[[Job, Setup, Callable[[], int]], tuple[int, str | None]]
"""Run a job in a process of its own and, while that still holds its memory, call a function; return what it
said, and the name of what the job has exported."""


def make_probe(plan: Plan, setup: Setup) -> Probe:
    """Return the probe of a plan: every setting that trials vary as large as it can become."""
    space, recipe = plan.space, plan.recipe
    settings = dict(trial_parameters(space, space.defaults(plan.data.preset)))
    published = to_flat(configure(recipe, plan.data.preset, settings))
    wanted: list[tuple[str, Sequence[Setting]]] = [
        (name, distribution.extremes) for name, distribution in space.searched.items()
    ]
    wanted += [(name, (value,)) for arm in space.ablation.arms.values() for name, value in arm.items()]
    for name, values in wanted:
        numbers = [
            value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
        ]
        now = settings.get(name, published[name])
        if not numbers or not isinstance(now, int | float) or max(numbers) <= now:
            continue
        trial = {**settings, name: max(numbers)}
        with contextlib.suppress(ValueError):  # together they may be too much
            recipe.check(configure(recipe, plan.data.preset, trial), plan.data)
            settings = trial
    return Probe(setup, {**settings, **{f"{stage.name}.epochs": 1 for stage in recipe.stages}})


def measure(probe: Probe, gpu: Gpu | None = None, hold: Hold | None = None) -> Packing:
    """Run one trial of each stage, and return what each takes. Raises LaunchError if one fails."""
    gpu = gpu or CudaGpu()
    recipe = RECIPES[probe.setup.recipe]
    before, taken, init = gpu.free(), {}, None
    with tempfile.TemporaryDirectory(prefix="packing-") as folder:
        setup = replace(probe.setup, out=folder, keep=1, every=1, max_seconds=())
        for index, stage in enumerate(recipe.stages):
            is_last = index == len(recipe.stages) - 1
            job = Job(
                trial=index,
                stage=index,
                seed=0,
                parameters=probe.parameters,
                init=init,
                export_key=None if is_last else "probe",
                test=is_last,
                run_key=f"probe-{stage.name}",
            )
            free = gpu.free()
            held, init = (hold or hold_in_process)(job, setup, gpu.free)
            taken[stage.name] = max(0, free - held)
    return Packing(gpu.name, gpu.total, before, taken)


class CudaGpu:
    """The first GPU that this process sees."""

    def __init__(self) -> None:
        import torch

        if not torch.cuda.is_available():
            raise LaunchError(
                f"{socket.gethostname()} offers a GPU, but torch finds none: install NVIDIA's driver there "
                "and torch's build for it (deploy/node.sh install gpu), or give --gpus-per-trial a number"
            )
        self._torch = torch
        self.name: str = torch.cuda.get_device_name(0)
        self.free()  # makes this process's own context, before anything is measured
        self.total: int = torch.cuda.mem_get_info(0)[1]

    def free(self) -> int:
        """Return the bytes that no process holds."""
        return int(self._torch.cuda.mem_get_info(0)[0])


def hold_in_process(job: Job, setup: Setup, read: Callable[[], int]) -> tuple[int, str | None]:
    """Run a job in a new process, and read while that still holds all of its memory."""
    stage = RECIPES[setup.recipe].stages[job.stage].name
    command = [sys.executable, "-m", "study.packing"]
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=_ROOT
        )
        started_s = time.monotonic()
        timer = threading.Timer(_STAGE_LIMIT_S, process.kill)
        timer.start()
        try:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(pickle.dumps((job, setup)))
            process.stdin.flush()
            line = process.stdout.readline()
            took_s = time.monotonic() - started_s
            said: dict[str, Any] = json.loads(line) if line else {"failure": _last_words(log, took_s)}
            if said["failure"] is not None:
                raise LaunchError(
                    f"cannot measure a {stage} trial on the GPU: {said['failure']}; give --gpus-per-trial "
                    "a number"
                )
            return read(), said["export"]
        finally:
            timer.cancel()
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.communicate()


def _last_words(log: TextIO, took_s: float) -> str:
    if took_s >= _STAGE_LIMIT_S:
        return f"its first epoch took more than {_STAGE_LIMIT_S:.0f} s"
    log.seek(0)
    lines = [line.strip() for line in log if line.strip()]
    return f"its process ended: {lines[-1] if lines else 'without a word'}"


def _run_and_hold() -> None:
    """Run the job that comes on the standard input, say how it ended, and wait to be killed."""
    job, setup = pickle.load(sys.stdin.buffer)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever a library prints is no answer
    news: list[News] = []
    run_trial(job, setup, news.append)
    export = (news[-1].result or {}).get("export")
    print(json.dumps({"failure": news[-1].failure, "export": export}), file=answers, flush=True)
    sys.stdin.buffer.read()


if __name__ == "__main__":
    _run_and_hold()
