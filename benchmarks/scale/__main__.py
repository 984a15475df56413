"""What happens on clusters that nobody has rented: `python -m benchmarks.scale --gpus 10 100 1000`.

Simulates studies of the space fsd_lcs in virtual time, with the real driver (docs/scale.md). Each simulation
runs in a process of its own, whose peak of memory is the driver's.
"""

import argparse
import dataclasses
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.scale.machines import Market
from benchmarks.scale.tables import append

if TYPE_CHECKING:
    from benchmarks.scale.simulation import Sample

RESULTS: Final = Path(__file__).parent / "results"


def main() -> int:
    """Run the simulations one after the other, and append a row of results for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--trials", type=int, nargs="+", default=[1000])
    parser.add_argument("--trial-s", type=float, default=60.0, help="of a fine-tuning of all epochs")
    parser.add_argument("--slots-per-gpu", type=int, default=1, help="trials that share a GPU")
    parser.add_argument("--no-stopping", action="store_true", help="run every proposal to its end")
    parser.add_argument("--sampler", choices=["tpe", "random"], default="tpe")
    parser.add_argument("--flush-ms", type=float, help="of one fsync, instead of the measured time")
    parser.add_argument(
        "--tune-ms",
        type=float,
        default=0.0,
        help="of Tune's loop for a hand-out and for each report: benchmarks.scale.controller, .turn",
    )
    parser.add_argument("--seed", type=int, default=0)
    market = parser.add_argument_group("the model of nodes")
    for entry in dataclasses.fields(Market):
        if entry.name != "speeds":
            name = "--" + entry.name.replace("_", "-")
            market.add_argument(name, type=type(entry.default), default=entry.default)
    parser.add_argument("--folder", type=Path, help="for the studies; a temporary folder by default")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(simulate(arguments)))
        return 0
    for gpus, trials in product(arguments.gpus, arguments.trials):
        argv = [*sys.argv[1:], "--gpus", str(gpus), "--trials", str(trials), "--one"]
        # One thread: the driver's cost is the CPU time of its own.
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.scale", *argv],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            env=env,
        )
        result = json.loads(done.stdout.splitlines()[-1])
        samples = result.pop("samples")
        append(arguments.out / "simulation.csv", [result])
        key = {name: result[name] for name in ("gpus", "trials", "variant")}
        append(arguments.out / "growth.csv", [{**key, **sample} for sample in samples])
        print(json.dumps(result, indent=1), flush=True)
    return 0


def simulate(arguments: argparse.Namespace) -> dict[str, Any]:
    """Simulate one study; return what it took."""
    from benchmarks.scale.driver import open_driver, plan_study
    from benchmarks.scale.simulation import Simulation
    from benchmarks.scale.workers import Workers

    gpus, trials = arguments.gpus[0], arguments.trials[0]
    names = [entry.name for entry in dataclasses.fields(Market) if entry.name != "speeds"]
    market = Market(**{name: getattr(arguments, name) for name in names})
    flush_s = None if arguments.flush_ms is None else arguments.flush_ms / 1000
    slots = gpus * arguments.slots_per_gpu
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        plan = plan_study(
            Path(folder), trials, stops_early=not arguments.no_stopping, sampler=arguments.sampler
        )
        workers = Workers(plan.space, arguments.trial_s)
        before_mb = _peak_mb()
        with open_driver(plan, slots, flush_s, arguments.tune_ms / 1000) as driver:
            simulation = Simulation(
                driver, workers, market, gpus, slots_per_gpu=arguments.slots_per_gpu, seed=arguments.seed
            )
            tally = simulation.run(sample_every=max(trials // 50, 1))
            end_s, study_mb = simulation.now_s, _peak_mb()
            records_s = driver.close()
            ledger_bytes, rows = driver.ledger_bytes(), driver.ledger.rows
    total_s = slots * end_s
    up_s = total_s - tally.seconds["node"]
    costs = driver.costs
    num_proposals = len({row.cell.proposal for row in rows.values()} - {None})
    statuses = [row.status for row in rows.values()]
    return {
        "variant": variant(arguments),
        "gpus": gpus,
        "trials": len(rows),
        "slots": slots,
        "hours": round(end_s / 3600, 3),
        "trials_per_s": round(len(rows) / end_s, 2),
        "events_per_s": round(tally.handled / end_s, 2),
        "proposals_per_s": round(num_proposals / end_s, 2),
        "driver_ms_per_trial": round(1e3 * driver.spent_s / len(rows), 2),
        "flush_ms_per_trial": round(1e3 * sum(c.flush_s for c in costs.values()) / len(rows), 2),
        "tune_ms_per_trial": round(1e3 * sum(c.tune_s for c in costs.values()) / len(rows), 2),
        "driver_busy": round(driver.spent_s / end_s, 4),
        "idle_driver": round(tally.seconds["driver"] / up_s, 5),
        "idle_driver_with_work": round(_idle_with_work(tally.samples, len(rows)), 5),
        "idle_work": round(tally.seconds["work"] / up_s, 5),
        "node_missing": round(tally.seconds["node"] / total_s, 5),
        "trained_in_vain": round(tally.lost_s / tally.seconds["busy"], 5),
        "reclaimed_attempts": tally.reclaimed,
        "stopped_early": statuses.count("stopped"),
        "failed": statuses.count("failed"),
        "dollars": round(simulation.cloud.dollars(end_s)),
        "peak_mb": round(study_mb),
        "imports_mb": round(before_mb),
        "peak_with_records_mb": round(_peak_mb()),
        "ledger_mb": round(ledger_bytes / 1e6, 1),
        "records_s": round(records_s, 1),
        **{f"{kind}_ms": round(1e3 * cost.seconds / cost.calls, 3) for kind, cost in sorted(costs.items())},
        **{f"{kind}_calls": cost.calls for kind, cost in sorted(costs.items())},
        "wall_s": round(time.monotonic() - began_s),
        "samples": [dataclasses.asdict(sample) for sample in tally.samples],
    }


def _idle_with_work(samples: Sequence["Sample"], trials: int) -> float:
    """Return the share of waiting for the driver, not for nodes or work, from 50 % to 90 % of the trials."""
    middle = [sample for sample in samples if 0.5 * trials <= sample.ended <= 0.9 * trials]
    waited_s = middle[-1].waited_s - middle[0].waited_s
    return waited_s / (middle[-1].busy_s - middle[0].busy_s + waited_s)


def variant(arguments: argparse.Namespace) -> str:
    """Name what differs from the shipped study on whole GPUs with the measured disk."""
    parts = []
    if arguments.no_stopping:
        parts.append("nothing stopped early")
    if arguments.sampler != "tpe":
        parts.append(arguments.sampler)
    if arguments.slots_per_gpu != 1:
        parts.append(f"{arguments.slots_per_gpu} trials a GPU")
    if arguments.trial_s != 60:
        parts.append(f"trials of {arguments.trial_s:g} s")
    if arguments.flush_ms is not None:
        parts.append(f"flush of {arguments.flush_ms:g} ms")
    if arguments.tune_ms:
        parts.append(f"Tune {arguments.tune_ms:g} ms")
    return ", ".join(parts) or "as shipped"


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
