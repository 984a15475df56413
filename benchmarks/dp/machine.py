"""What a measurement was made on and with."""

import datetime
import os
import platform
import subprocess
import time
from importlib import metadata
from pathlib import Path

import torch

from ftcl.dp.backends import native

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("torch", "numpy", "numba", "triton", "pysdtw", "tslearn")


def provenance(device: torch.device, threads: int, command: str) -> dict[str, str]:
    """Machine, versions, revision and date, each as one line of text."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "revision": _revision(),
        "cpu": _processor(),
        "cores": str(os.cpu_count()),
        "threads": str(threads),
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "unset"),
        "load before": " ".join(f"{x:.2f}" for x in os.getloadavg()),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}",
        "python": platform.python_version(),
    }
    facts |= {name: _version(name) for name in _PACKAGES}
    facts["native backend"] = _instruction_set()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        facts["gpu"] = f"{properties.name}, {properties.multi_processor_count} multiprocessors"
        facts["cuda"] = str(torch.version.cuda)
        facts["driver"] = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return facts


class OtherLoad:
    """The share of the machine's cores that other programs have used since this object was made."""

    def __init__(self) -> None:
        self._busy_s, self._own_s, self._at_s = self._busy(), self._own(), time.monotonic()

    def share(self) -> float:
        """Between 0 and 1; not a number where the system does not tell."""
        elapsed_s = (time.monotonic() - self._at_s) * (os.cpu_count() or 1)
        others_s = self._busy() - self._busy_s - (self._own() - self._own_s)
        return max(0.0, others_s) / elapsed_s

    @staticmethod
    def _own() -> float:
        own = os.times()
        return own.user + own.system + own.children_user + own.children_system

    @staticmethod
    def _busy() -> float:
        stat = Path("/proc/stat")
        if not stat.exists():
            return float("nan")
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def caption(facts: dict[str, str]) -> str:
    """The machine in one line."""
    where = facts.get("gpu") or f"{facts['cpu']}, {facts['threads']} threads"
    return f"{where}; torch {facts['torch']}, {facts['date'].split()[0]}"


def _revision() -> str:
    revision = _output("git", "rev-parse", "--short=10", "HEAD")
    changed = _output("git", "status", "--porcelain", "--untracked-files=no")
    return revision + (" with changes" if changed and revision != "unknown" else "")


def _instruction_set() -> str:
    if native.unavailable() is not None:
        return "missing"
    return ("any processor", "AVX2", "AVX-512")[native.best_level()]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip().replace("\n", "; ")
