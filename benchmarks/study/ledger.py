"""What a long study costs its driver in memory and time: `python -m benchmarks.study.ledger`.

Makes the ledger of a study that nobody trained, by handing out its trials and telling their epochs as workers
would, and then opens it in a fresh process as a driver does that continues it. The writes are flushed to the
disk only where their rate is measured, for the last trials.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import optuna
import yaml
from rich.console import Console

from study.agenda import Agenda
from study.assembly import assemble
from study.job import Job, News
from study.ledger import Ledger
from study.ledger_storage import LedgerLocation, hold, open_storage
from study.manifest import environment, new_launch
from study.plan import Options, Plan, make_plan
from study.records import MANIFEST, write_json, write_tables
from study.store import open_store

_METRICS: Final = (
    *(f"validation/mAP@{threshold / 10}" for threshold in range(1, 8)),
    "validation/mAP@0.1:0.7",
    *(f"loss/{term}" for term in ("total", "cls", "fsd", "lcs")),
    *("wall_s", "cpu_s", "gpu_s"),
)
_TIMED_TRIALS: Final = 20


def main() -> int:
    """Make a ledger, open it, and print what that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=25, help="of a trial, with 15 metrics each")
    parser.add_argument("--storage", choices=["journal", "sqlite"], default="journal")
    parser.add_argument("--folder", type=Path, help="where the study is made; a temporary folder by default")
    parser.add_argument("--step", choices=["make", "open"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step is not None:
        step = _make if arguments.step == "make" else _open
        print(json.dumps(step(arguments.folder, arguments.trials, arguments.epochs, arguments.storage)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or Path(temporary)
        # Each in a process of its own: Linux counts the memory of a parent into its children's maximum.
        made, opened = (_in_process(arguments, step) for step in ("make", "open"))
    here = environment()
    hardware, versions = here["hardware"], here["versions"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("python", "optuna", "ray", "torch"))
    print(f"{hardware['cpu']}, {hardware['cores']} cores; {names}")
    print(f"{arguments.trials} trials of {arguments.epochs} epochs, {len(_METRICS)} metrics each")
    for name, value in {**made, **opened}.items():
        print(f"  {name:<44}{value:>10}")
    return 0


def _in_process(arguments: argparse.Namespace, step: str) -> dict[str, str]:
    command = [sys.executable, "-m", "benchmarks.study.ledger", "--step", step]
    for name in ("trials", "epochs", "storage", "folder"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _plan(folder: Path, trials: int, epochs: int, storage: str) -> Plan:
    seeds = 2
    space = {
        "title": "A study that nobody trained",
        "recipe": "ftcl",
        "data": "synthetic",
        "fixed": {"finetune.epochs": epochs},
        "objective": {"metric": "mAP@0.1:0.7", "split": "validation"},
        "search": {
            "trials": trials // seeds + 100,  # some are left to do
            "seeds": seeds,
            "confirm": {"top": 2, "seeds": 2},
            "batch": 4,
            "sampler": {"name": "random", "startup": 1},
            "parameters": {
                "finetune.lambda_lcs": {"float": [0.02, 1.0], "log": True},
                "finetune.lambda_fsd": {"float": [0.02, 1.0], "log": True},
                "finetune.fsd_gamma": {"float": [0.01, 1.0], "log": True},
                "finetune.fsd_len": {"int": [3, 6]},
            },
        },
        "ablation": {
            "seeds": 2,
            "baseline": "cont",
            "arms": {"cont": {"finetune.lambda_fsd": 0.0, "finetune.lambda_lcs": 0.0}, "FSD+LCS": {}},
            "families": [{"name": "both", "metric": "mAP@0.1:0.7", "arms": ["FSD+LCS"], "against": "cont"}],
        },
    }
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(space))
    ledger = None if storage == "journal" else f"sqlite:///{folder.absolute()}/ledgers.db"
    return make_plan(Options(space=str(path), out=str(folder / "out"), ledger=ledger))


def _make(folder: Path, trials: int, epochs: int, storage: str) -> dict[str, str]:
    plan = _plan(folder, trials, epochs, storage)
    assert plan.store.local is not None
    plan.store.local.mkdir(parents=True)
    write_json(plan.store, MANIFEST, {**plan.manifest, "launches": [new_launch((), 1)]})
    journal = LedgerLocation.parse(None, plan.store if storage == "journal" else open_store(folder))
    flush = os.fsync
    began_s = time.monotonic()
    with hold(journal, plan.study_id) as held:
        ledger = Ledger(open_storage(journal, held), plan.study_id)
        agenda = assemble(plan, ledger, 1, Console(quiet=True))[0]
        os.fsync = lambda _: None
        _run(plan, agenda, ledger, trials - _TIMED_TRIALS, epochs)
        os.fsync = flush
        if storage == "journal":
            rate = _rate(plan, agenda, ledger, trials, epochs)
        agenda.close()
    if storage == "sqlite":
        with hold(plan.ledger, plan.study_id) as held:
            copied = open_storage(plan.ledger, held)
            for part in ("trials", "proposals"):
                optuna.copy_study(
                    from_study_name=f"{plan.study_id}/{part}", from_storage=ledger.storage, to_storage=copied
                )
            ledger = Ledger(copied, plan.study_id)
            agenda = assemble(plan, ledger, 1, Console(quiet=True))[0]
            rate = _rate(plan, agenda, ledger, trials, epochs)
            agenda.close()
    assert plan.ledger.path is not None
    return {
        "making it, s": f"{time.monotonic() - began_s:.0f}",
        "size of the ledger, MB": f"{plan.ledger.path.stat().st_size / 1e6:.0f}",
        "epochs written a second, each flushed": f"{rate:.0f}",
    }


def _rate(plan: Plan, agenda: Agenda, ledger: Ledger, trials: int, epochs: int) -> float:
    began_s = time.monotonic()
    _run(plan, agenda, ledger, trials, epochs)
    return _TIMED_TRIALS * epochs / (time.monotonic() - began_s)


def _run(plan: Plan, agenda: Agenda, ledger: Ledger, trials: int, epochs: int) -> None:
    """Tell of trials as workers would, until the ledger has so many."""
    chance = random.Random(len(ledger.rows))
    while len(ledger.rows) < trials:
        job = agenda.next_job()
        assert job is not None
        for epoch in range(1, epochs + 1):
            metrics = {name: 100 * chance.random() for name in _METRICS}
            if agenda.take(News(job.trial, job.attempt, "a-host-of-the-cluster", epochs={epoch: metrics})):
                break
        else:
            agenda.take(
                News(job.trial, job.attempt, "a-host-of-the-cluster", result=_result(plan, job, chance))
            )


def _result(plan: Plan, job: Job, chance: random.Random) -> dict[str, Any]:
    metrics = {f"{plan.goal.name}": 100 * chance.random()}
    metrics |= {name: 100 * chance.random() for name in _METRICS if name.startswith("validation/")}
    export = {}
    if job.export_key is not None:
        export["export"] = f"pretrained/{job.export_key}.pt"
        plan.store.write(export["export"], b"")
    return {"metrics": metrics, "chosen_epoch": 1, "last_lap": {"wall_s": 1.0}, **export}


def _open(folder: Path, trials: int, epochs: int, storage: str) -> dict[str, str]:
    import study.tune.run  # noqa: F401 - Ray and torch are part of a driver

    figures = {"memory after the imports, MB": _peak_mb()}
    plan = _plan(folder, trials, epochs, storage)
    with hold(plan.ledger, plan.study_id) as held:
        began_s = time.monotonic()
        ledger = Ledger(open_storage(plan.ledger, held), plan.study_id)
        figures["opening the ledger, s"] = f"{time.monotonic() - began_s:.1f}"
        figures["peak of memory with it, MB"] = _peak_mb()
        began_s = time.monotonic()
        agenda = assemble(plan, ledger, 1, Console(quiet=True))[0]
        figures["putting the study together, s"] = f"{time.monotonic() - began_s:.1f}"
        began_s = time.monotonic()
        known = len(ledger.rows)
        while len(ledger.rows) == known:  # those that were interrupted come first
            assert agenda.next_job() is not None
        figures["the first new trial, s"] = f"{time.monotonic() - began_s:.2f}"
        figures["peak of memory with all of it, MB"] = _peak_mb()
        began_s = time.monotonic()
        agenda.close()
        write_tables(plan.store, ledger.rows.values())
        figures["writing the records, s"] = f"{time.monotonic() - began_s:.1f}"
        figures["peak of memory with the records, MB"] = _peak_mb()
    return figures


def _peak_mb() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"


if __name__ == "__main__":
    sys.exit(main())
