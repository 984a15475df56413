"""A Ray cluster of this machine's own: a head without CPUs and nodes of one CPU each, on loopback.

All its processes, the driver's too, carry a mark in their environment, so that each can be found and none of
another cluster is ever touched. Linux only.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
NODES: Final = ("node1", "node2")
_MARK: Final = "FTCL_CHAOS"
_START_TIMEOUT_S: Final = 90.0
_END_TIMEOUT_S: Final = 15.0
_STORE_BYTES: Final = 80_000_000
# A raylet that says nothing is given up after 3 s instead of 15 s.
_HEALTH: Final = {"initial_delay_ms": 1000, "period_ms": 1000, "timeout_ms": 2000, "failure_threshold": 3}
# Names of workers that train nothing.
_IDLE: Final = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")


@dataclass(frozen=True)
class Peculiar:
    """What sets a node apart from the others."""

    variables: Mapping[str, str] = field(default_factory=dict)
    mounts: Mapping[Path, Path] = field(default_factory=dict)  # at this path, there alone, lies that folder


class Cluster:
    """A head and its nodes; `folder` holds their sessions and logs, and must have a short path (sockets)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"127.0.0.1:{_free_port()}"
        self._mark = secrets.token_hex(8)
        self._token = secrets.token_hex(32)

    def environment(self, part: str) -> dict[str, str]:
        """Return the environment of a process of the cluster: `part` is the driver or a node."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        return inherited | {
            _MARK: f"{self._mark}/{part}",
            "SPT_NOENV": "1",  # otherwise Ray writes the titles of its workers over the mark
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            **{f"RAY_health_check_{name}": str(value) for name, value in _HEALTH.items()},
        }

    def start(self) -> None:
        """Start the head and all nodes, and return when they have joined."""
        port = self.address.rpartition(":")[2]
        head = ["--head", "--port", port, "--num-cpus", "0", "--include-dashboard", "false"]
        head += ["--ray-client-server-port", str(_free_port())]
        self._wait("head", self._ray_start("head", "127.0.0.1", *head))
        starting = {node: self._start_node(node) for node in NODES}
        for node, process in starting.items():
            self._wait(node, process)

    def start_node(self, node: str, peculiar: Peculiar | None = None) -> None:
        """Start a node again, as a new one; what is left of the old one is killed first."""
        self.kill(node)
        self._wait(node, self._start_node(node, peculiar))

    def raylet(self, node: str) -> int | None:
        """Return the raylet of a node, None if it is dead."""
        return next((pid for pid in self.processes(node) if "/raylet/raylet" in _command(pid)), None)

    def workers(self, node: str | None = None) -> list[int]:
        """Return the processes of one node, or of all, that run a trial or could at once."""
        nodes = NODES if node is None else (node,)
        found = [pid for name in nodes for pid in self.processes(name)]
        return [pid for pid in found if (title := _command(pid)).startswith("ray::") and title not in _IDLE]

    def workers_left(self) -> list[int]:
        """Return the workers that still run a trial some seconds after the driver has ended."""
        deadline = time.monotonic() + _END_TIMEOUT_S
        while (left := self.workers()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left

    def processes(self, part: str = "") -> list[int]:
        """Return the live processes of one part, or all that carry the cluster's mark."""
        wanted = f"{_MARK}={self._mark}/{part}".encode()
        found = []
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            try:
                variables = Path("/proc", entry, "environ").read_bytes().split(b"\0")
            except OSError:
                continue  # it has ended, or is another user's
            if any(v == wanted if part else v.startswith(wanted) for v in variables):
                found.append(int(entry))
        return found

    def kill(self, part: str = "") -> int:
        """Kill all processes of a part, or all of the cluster, and wait until they are gone."""
        killed: set[int] = set()
        deadline = time.monotonic() + _START_TIMEOUT_S
        while pids := self.processes(part):
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes {pids} do not end")
            for pid in pids:
                send(pid, signal.SIGKILL)
            killed.update(pids)
            time.sleep(0.05)
        return len(killed)

    def _start_node(self, node: str, peculiar: Peculiar | None = None) -> "subprocess.Popen[bytes]":
        # An address of its own: a driver attaches to a raylet of its own address, to be the head's.
        host = f"127.0.0.{NODES.index(node) + 2}"
        arguments = ["--address", self.address, "--num-cpus", "1"]
        return self._ray_start(node, host, *arguments, peculiar=peculiar or Peculiar())

    def _ray_start(
        self, part: str, host: str, *arguments: str, peculiar: Peculiar = Peculiar()
    ) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *arguments]
        command += ["--node-ip-address", host, "--object-store-memory", str(_STORE_BYTES)]
        # Nodes that start at once in one folder would take the same sockets.
        command += ["--temp-dir", str(self.folder / part)]
        command += ["--min-worker-port", "0", "--max-worker-port", "0"]  # any free: the nodes share a machine
        for at, folder in peculiar.mounts.items():
            mount = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", str(folder), str(at), *command]
        environment = self.environment(part) | dict(peculiar.variables)
        with self._log(part).open("ab") as log:
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def _log(self, part: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{part}.log"

    def _wait(self, part: str, process: "subprocess.Popen[bytes]") -> None:
        if process.wait(timeout=_START_TIMEOUT_S):
            raise RuntimeError(f"{part} did not start: {self._log(part).read_text()[-2000:]}")


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process, which may have ended meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
