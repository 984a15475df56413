"""The driver of the study: one command, started as often as it is killed."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.chaos.cluster import ROOT, Cluster, send

_SPACE: Final = Path(__file__).with_name("space.yaml")
_TRACEBACK: Final = "Traceback (most recent call last)"


class Driver:
    """Runs the study in `out` on the cluster; what it prints goes to `driver-<launch>.log` in `logs`."""

    def __init__(self, cluster: Cluster, out: Path, logs: Path, arguments: Sequence[str] = ()) -> None:
        self.command = [sys.executable, str(ROOT / "run_study.py"), "--space", str(_SPACE)]
        self.command += ["--data", "synthetic", "--deterministic", "--address", cluster.address]
        self.command += ["--out", str(out), *arguments]
        self.launches = 0
        self._cluster = cluster
        self._logs = logs
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Give the command; the one before must have ended."""
        assert self.exit_code is not None or self._process is None
        self.launches += 1
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command,
                env=self._cluster.environment("driver"),
                cwd=self._logs,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> Path:
        """What the present launch prints."""
        return self._log(self.launches)

    def tracebacks(self) -> list[int]:
        """Return the launches that printed a traceback instead of a message."""
        logs = (self._log(launch) for launch in range(1, self.launches + 1))
        found = [_TRACEBACK in log.read_text(errors="replace") for log in logs]
        return [launch for launch, is_there in enumerate(found, start=1) if is_there]

    @property
    def exit_code(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def runs(self) -> bool:
        """Whether the command has been given and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def has_begun(self) -> bool:
        """Whether the present launch has started or ended a trial; before, signals end it as any program."""
        return self.runs and any(line.startswith("[") for line in self.log.read_text().splitlines())

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the driver alone."""
        assert self._process is not None
        send(self._process.pid, number)

    def wait(self, timeout_s: float) -> int | None:
        """Return the exit status; None if it goes on for longer than that."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(30)

    def _log(self, launch: int) -> Path:
        return self._logs / f"driver-{launch:03}.log"
