"""The proof that a study loses nothing and repeats nothing: `make chaos`.

Runs one study twice on a real local Ray cluster: left alone, and struck by a seeded adversary. Then both must
hold the same. Exit status 1 if anything differs; OUT/report.json has the strikes, the checks and the machine.
"""

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from rich.console import Console

from benchmarks.chaos.adversary import ChaosError, Planned, Struck, disturb, plan_strikes
from benchmarks.chaos.cluster import Cluster
from benchmarks.chaos.compare import Check, Study, compare
from benchmarks.chaos.driver import Driver
from benchmarks.chaos.loopback import enter_own_network
from benchmarks.chaos.report import Report
from benchmarks.chaos.strikes import KILLS, SmallDisk, World
from benchmarks.chaos.watch import read_held

_OUT: Final = Path("build/chaos")
_DISK_BYTES: Final = 512 * 2**20


@dataclass(frozen=True)
class _Ran:
    """How a study got through."""

    out: Path
    log: list[Struck]
    seconds: float
    launches: int
    problems: list[str]


def main() -> int:
    """Run both studies, compare them, print and write the report."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing is left behind
    if not enter_own_network():
        print("not root: the cluster listens on every interface of this machine, behind its token")
    deadline_s = time.monotonic() + 60 * options.minutes
    folder: Path = options.out.absolute()
    if folder.exists() and any(folder.iterdir()) and not (folder / "undisturbed").exists():
        print(f"{folder} holds other files; name another --out", file=sys.stderr)
        return 2
    shutil.rmtree(folder, ignore_errors=True)
    arguments = [f"--{name}={n}" for name in ("trials", "seeds") if (n := getattr(options, name))]
    run = partial(_run, folder, arguments, deadline_s)

    alone = run("undisturbed", [], 0, small_disk=False)
    epochs = read_held(alone.out).epochs
    print(f"undisturbed: {epochs} epochs in {alone.seconds:.0f} s", flush=True)
    full_disk = os.geteuid() == 0
    plan = plan_strikes(options.kills, options.seed, full_disk=full_disk)
    struck = run("struck", plan, epochs, small_disk=full_disk)

    problems = [*alone.problems, *struck.problems]
    checks = [Check("the study ran to its end", f"{struck.launches} launches", tuple(problems))]
    if all((ran.out / "ablation.csv").exists() for ran in (alone, struck)):
        kills = sum(strike.kind in KILLS for strike in struck.log)
        checks += compare(Study.read(struck.out), Study.read(alone.out), kills)
    report = Report(
        command=shlex.join(["python", "-m", "benchmarks.chaos", *sys.argv[1:]]),
        seed=options.seed,
        undisturbed_s=alone.seconds,
        struck_s=struck.seconds,
        launches=struck.launches,
        strikes=struck.log,
        left_out=[] if full_disk else ["full disk: mounting a small file system needs root"],
        checks=checks,
    )
    report.write(folder / "report.json")
    report.show(Console(width=None if sys.stdout.isatty() else 120))
    print(f"\n{report.violations} violations; {folder / 'report.json'} has the log")
    return 1 if report.violations else 0


def _run(
    folder: Path,
    arguments: list[str],
    deadline_s: float,
    name: str,
    plan: list[Planned],
    epochs: int,
    *,
    small_disk: bool,
) -> _Ran:
    """Run the study in `folder/name`; what it leaves stays there."""
    logs = folder / name
    logs.mkdir(parents=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as scratch, _disk(small_disk, Path(scratch)) as disk:
        out = logs / "out" if disk is None else disk.folder / "out"
        cluster = Cluster(Path(scratch, "ray"))
        world = World(cluster, Driver(cluster, out, logs, arguments), out, disk)
        log: list[Struck] = []
        started_s = time.monotonic()
        try:
            cluster.start()
            disturb(world, plan, epochs, deadline_s, log, lambda text: print(text, flush=True))
            if left := cluster.workers_left():
                world.problems.append(f"processes {left} of trials outlive the study")
        except ChaosError as error:
            world.problems.append(str(error))
        finally:
            cluster.kill()
            shutil.copytree(cluster.folder, logs / "ray", ignore=_only_logs, dirs_exist_ok=True)
        if disk is not None and out.exists():
            shutil.copytree(out, logs / "out")
        seconds = time.monotonic() - started_s
        world.problems += [f"launch {launch} printed a traceback" for launch in world.driver.tracebacks()]
    return _Ran(logs / "out", log, seconds, world.driver.launches, world.problems)


def _only_logs(folder: str, names: list[str]) -> list[str]:
    """Leave out what is no file of text: sockets, links to the newest session."""
    paths = [Path(folder, name) for name in names]
    return [path.name for path in paths if path.is_symlink() or not (path.is_dir() or path.is_file())]


@contextmanager
def _disk(wanted: bool, scratch: Path) -> Iterator[SmallDisk | None]:
    if not wanted:
        yield None
        return
    disk = SmallDisk(scratch / "disk", _DISK_BYTES)
    try:
        yield disk
    finally:
        disk.unmount()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.chaos", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=50, help="strikes that end processes (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the adversary (default: 0)")
    parser.add_argument("--minutes", type=float, default=25, help="give up after so long (default: 25)")
    parser.add_argument("--out", type=Path, default=_OUT, help=f"folder, made anew (default: {_OUT})")
    parser.add_argument("--trials", type=int, help="proposals of the study's search (default: the space's)")
    parser.add_argument("--seeds", type=int, help="seeds of the study's ablation (default: the space's)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
