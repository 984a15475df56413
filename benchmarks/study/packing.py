"""Does the choice of `--gpus-per-trial auto` hold? With a GPU: `python -m benchmarks.study.packing`.

Measures what a trial of each stage takes, then runs 1, 2, 4, ... fine-tunings at once, up to the choice, as
processes on the one GPU, each with the settings that were measured and its evaluation on the test videos, and
prints how many an hour they make together. Exit status 1 if one of them fails. Needs neither Ray nor Optuna.

Without --data it makes up features of THUMOS14's size; `synthetic` is for a quick look.
"""

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from ftcl.data.datasets import _THUMOS14_CLASSES
from study.disk import show_bytes
from study.job import Job, News, Setup
from study.packing import CudaGpu, Probe, hold_in_process, make_probe, measure
from study.plan import Options, Plan, make_plan
from study.trial import run_trial

_VIDEOS: Final = {"train": 200, "test": 213}
_SNIPPET_S: Final = 16 / 25


def main() -> int:
    """Measure, run, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="fsd_lcs")
    parser.add_argument("--data", help="as of run_study.py (default: made up, of THUMOS14's size)")
    parser.add_argument("--epochs", type=int, default=3, help="of each fine-tuning (default: 3)")
    parser.add_argument("--most", type=int, default=64, help="at once, whatever fits (default: 64)")
    parser.add_argument("--out", type=Path, help="a JSON file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="packing-") as folder:
        data = arguments.data or f"thumos14:{_make_up(Path(folder) / 'data')}"
        plan = make_plan(Options(space=arguments.space, data=data, out=f"{folder}/none"))
        figures = _measure_and_run(plan, Path(folder), arguments.epochs, arguments.most)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if any(row["failures"] for row in figures["rows"]) else 0


def _measure_and_run(plan: Plan, folder: Path, epochs: int, most: int) -> dict[str, Any]:
    probe = make_probe(plan, _setup(plan, folder))
    started_s = time.monotonic()
    gpu = CudaGpu()
    packing = measure(probe, gpu)
    cpus = os.cpu_count() or 1
    choice = min(most, packing.trials(plan.recipe.stages[-1].name, cpus, 1))
    print(f"{packing}\nmeasured in {time.monotonic() - started_s:.0f} s; by memory and {cpus} CPUs: {choice}")
    _, init = hold_in_process(_pretraining(probe), probe.setup, gpu.free)
    counts = sorted({2**power for power in range(choice.bit_length()) if 2**power <= choice} | {choice})
    rows = [_run_at_once(probe, init, count, epochs, gpu) for count in counts]
    table = Table("at once", "trials / hour", "seconds", "GPU used", "failed", "note")
    for row in rows:
        note = "the choice" if row["count"] == choice else ""
        used = show_bytes(row["used_bytes"])
        speed = f"{row['trials_per_hour']:.0f}", f"{row['seconds']:.1f}"
        table.add_row(str(row["count"]), *speed, used, str(len(row["failures"])), note)
    Console(width=110).print(table)
    for row in rows:
        for failure in row["failures"]:
            print(f"{row['count']} at once: {failure}")
    return {"gpu": packing.gpu, "total": packing.total, "stages": dict(packing.stages), "rows": rows}


def _setup(plan: Plan, folder: Path) -> Setup:
    # What study.assembly.make_setup says, which would need Optuna.
    return Setup(
        out=str(folder / "store"),
        recipe=plan.recipe.name,
        data=plan.data.spec,
        fold=plan.options.fold,
        data_seed=plan.options.data_seed,
        fingerprint=plan.data.fingerprint,
        protocol=plan.options.protocol,
        metric=plan.space.objective.metric,
        deterministic=False,
        detail_videos=tuple(sorted(plan.data.splits["test"])[:4]),
        num_threads=1,
        gpus=tuple(1.0 for _ in plan.recipe.stages),
    )


def _pretraining(probe: Probe) -> Job:
    return Job(
        trial=0,
        stage=0,
        seed=0,
        parameters=probe.parameters,
        init=None,
        export_key="key",
        test=False,
        run_key="pretrain",
    )


def _run_at_once(probe: Probe, init: str | None, count: int, epochs: int, gpu: CudaGpu) -> dict[str, Any]:
    """Run so many fine-tunings; the time is from when all have begun training until the last has ended."""
    job = replace(_pretraining(probe), stage=1, init=init, export_key=None, test=True)
    job = replace(job, parameters={**probe.parameters, "finetune.epochs": epochs})
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    together: Any = context.Barrier(count + 1)
    free = least_free = gpu.free()
    processes = [
        context.Process(
            target=_trial,
            args=(
                replace(job, trial=index, seed=index, run_key=f"{count}-{index}"),
                probe.setup,
                together,
                told,
            ),
        )
        for index in range(count)
    ]
    for process in processes:
        process.start()
    failures: list[str] = []
    together.wait(timeout=300 + 10 * count)
    started_s = time.monotonic()
    while any(process.is_alive() for process in processes):
        least_free = min(least_free, gpu.free())
        time.sleep(0.05)
    seconds = time.monotonic() - started_s
    for process in processes:
        process.join()
        failure = told.get(timeout=10) if process.exitcode == 0 else f"exit status {process.exitcode}"
        failures += [failure] if failure else []
    return {
        "count": count,
        "seconds": seconds,
        "trials_per_hour": 3600 * count / seconds,
        "used_bytes": free - least_free,
        "failures": failures,
    }


def _trial(job: Job, setup: Setup, together: Any, told: Any) -> None:
    """Run a trial as a worker does, after all others are ready too; tell its failure, or None."""
    import torch

    torch.cuda.init()
    together.wait()
    news: list[News] = []
    run_trial(job, setup, news.append)
    told.put(news[-1].failure)


def _make_up(folder: Path) -> Path:
    """Write random features in the layout and of the size of THUMOS14: 2048 channels, 4 minutes a video."""
    rng = np.random.default_rng(0)
    database: dict[str, Any] = {}
    for split, count in _VIDEOS.items():
        (folder / split).mkdir(parents=True)
        names = [f"{split}_{index:03}" for index in range(count)]
        (folder / f"split_{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for index, name in enumerate(names):
            length = int(rng.integers(100, 700))
            features = np.abs(rng.standard_normal((length, 2048), dtype=np.float32))
            np.save(folder / split / f"{name}.npy", features)
            start_s = float(rng.uniform(0, length * _SNIPPET_S - 20))
            label = _THUMOS14_CLASSES[index % len(_THUMOS14_CLASSES)]
            database[name] = {
                "duration": length * _SNIPPET_S,
                "subset": "validation" if split == "train" else "test",
                "annotations": [{"segment": [start_s, start_s + 15], "label": label}],
            }
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    return folder


if __name__ == "__main__":
    sys.exit(main())
