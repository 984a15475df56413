"""What a chaos run has to show: the strikes, the checks, the machine; for readers and as JSON."""

import dataclasses
import json
import os
import platform
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.chaos.adversary import Struck
from benchmarks.chaos.compare import Check

_PACKAGES: Final = ("ray", "optuna", "torch", "numpy", "pyarrow")
_MAX_SHOWN: Final = 5


@dataclass(frozen=True)
class Report:
    """One chaos run."""

    command: str
    seed: int
    undisturbed_s: float
    struck_s: float
    launches: int  # of the driver
    strikes: Sequence[Struck]
    left_out: Sequence[str]
    checks: Sequence[Check]

    @property
    def violations(self) -> int:
        """How many things did not hold."""
        return sum(len(check.violations) for check in self.checks)

    def write(self, path: Path) -> None:
        """Write all of it as JSON, with the machine and the versions."""
        content: dict[str, Any] = {
            **dataclasses.asdict(self),
            "violations": self.violations,
            "machine": {"processor": processor(), "cores": os.cpu_count(), "system": platform.platform()},
            "versions": {"python": platform.python_version()}
            | {name: metadata.version(name) for name in _PACKAGES},
        }
        path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def show(self, console: Console) -> None:
        """Print what was done and what held."""
        by_kind: dict[str, list[float | None]] = defaultdict(list)
        for strike in self.strikes:
            by_kind[strike.kind].append(strike.seconds)
        table = Table("strike", "times", "until the next epoch was on record", box=None, header_style="bold")
        for kind, times in sorted(by_kind.items()):
            seconds = [time for time in times if time is not None]
            shown = f"{min(seconds):.1f} to {max(seconds):.1f} s" if seconds else "-"
            table.add_row(kind, str(len(times)), shown)
        console.print(table)
        for words in self.left_out:
            console.print(f"left out: {words}")
        console.print(
            f"\nundisturbed {self.undisturbed_s:.0f} s; struck {self.struck_s:.0f} s, {len(self.strikes)} "
            f"strikes, {self.launches} launches of the driver; seed {self.seed}; {processor()}, "
            f"{os.cpu_count()} cores\n",
            highlight=False,
        )
        checks = Table("check", "", "found", box=None, header_style="bold")
        for check in self.checks:
            checks.add_row(check.name, "holds" if not check.violations else "VIOLATED", check.figure)
        console.print(checks)
        for check in self.checks:
            for words in check.violations[:_MAX_SHOWN]:
                console.print(f"  {check.name}: {words}", markup=False, highlight=False, soft_wrap=True)
            if len(check.violations) > _MAX_SHOWN:
                console.print(f"  {check.name}: {len(check.violations) - _MAX_SHOWN} more")


def processor() -> str:
    """Return the processor's name as Linux knows it."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
