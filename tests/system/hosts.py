"""Machines of the tests' own: Linux namespaces with a network, a disk, a host name and an sshd each.

Every machine has its own /root, /tmp, /run and /dev/shm, so that equal paths hold different files, sees only
its own processes, and answers on its own address of a network that ends in this process. The programs of the
real machine (/usr, /etc) are shared. `/mnt/shared` is one folder for all of them: a lab's network disk.
Needs Linux, root, and a network namespace of this process's own (tests/system/conftest.py).
"""

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_HOME: Final = pwd.getpwuid(0).pw_dir
_BRIDGE: Final = "lab"
_NETWORK: Final = "10.77.0"
_START_TIMEOUT_S: Final = 20.0
_OWN: Final = ("root", "tmp")
_PACKAGES: Final = {"sshd": "openssh-server", "ssh": "openssh-client", "rsync": "rsync", "ip": "iproute2"}

# The first process of a machine. What is mounted here nobody else sees, and ends with it.
_BOOT: Final = """
set -eu
name=$1 disk=$2 shared=$3; shift 3
hostname "$name"
mount -t tmpfs tmpfs /mnt
mkdir /mnt/shared
mount --bind "$shared" /mnt/shared
stage=$(mktemp -d -p /mnt)
for kept in "$@"; do
  mkdir -p "$stage$kept"
  mount --bind "$kept" "$stage$kept"
done
mount --bind "$disk/root" ~
mount --bind "$disk/tmp" /tmp
for kept in "$@"; do
  [ -e "$kept" ] || { mkdir -p "$kept" && mount --bind "$stage$kept" "$kept"; }
done
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /dev/shm
mkdir /run/sshd
: > /run/booted
while sleep 3600; do :; done  # a shell as the first process buries the orphans
"""

_SSHD: Final = """
HostKey {home}/.ssh/host_key
ListenAddress {address}
AuthorizedKeysFile .ssh/authorized_keys
PidFile /run/sshd.pid
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
"""


@dataclass(frozen=True)
class Process:
    """A process of a machine, by its number out here."""

    pid: int
    command: str


class Host:
    """A machine; `disk` holds its /root and /tmp."""

    def __init__(self, name: str, address: str, disk: Path, shared: Path) -> None:
        self.name = name
        self.address = address
        self.disk = disk
        self._cable = f"to-{name}"
        for folder in _OWN:
            (disk / folder).mkdir(parents=True)
        self.home.chmod(0o700)
        (disk / "tmp").chmod(0o1777)
        # Python and its packages may lie in a folder that the machine has its own of.
        kept = [sys.prefix, sys.base_prefix]
        unshare = ["unshare", "--net", "--mount", "--uts", "--ipc", "--pid", "--mount-proc", "--fork"]
        boot = ["bash", "-c", _BOOT, "boot", name, str(disk), str(shared), *kept]
        with (disk / "boot.log").open("w") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *unshare, "--kill-child", *boot],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._first = self._find_first()
        _ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", str(self._first))
        _ip("link", "set", self._cable, "master", _BRIDGE)
        self.plug_in()
        self._wait_until_booted()
        self.run(
            f"ip link set lo up && ip address add {address}/24 dev eth0 && ip link set eth0 up"
            " && ip route add default dev eth0"
        )

    @property
    def home(self) -> Path:
        """Where the home of its only user lies, out here."""
        return self.disk / "root"

    def command(self, script: str) -> list[str]:
        """Return what runs a script in a login shell of the machine."""
        enter = ["nsenter", "--target", str(self._first), "--all"]
        clean = ["env", "-i", f"HOME={_HOME}", "USER=root", "LOGNAME=root", "TERM=dumb", f"PATH={_PATH}"]
        return [*enter, *clean, "bash", "--login", "-c", f"cd && {script}"]

    def run(self, script: str, *, timeout_s: float = 60) -> str:
        """Run a script on the machine and return what it prints; raise AssertionError if it fails."""
        done = subprocess.run(
            self.command(script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"{self.name}: {script}: exit {done.returncode}: {done.stdout}"
        return done.stdout

    def start_sshd(self, public_key: str) -> None:
        """Let whoever has the private key log in as root."""
        folder = self.home / ".ssh"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "authorized_keys").write_text(public_key)
        (folder / "sshd_config").write_text(_SSHD.format(address=self.address, home=_HOME))
        self.run("ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/host_key && /usr/sbin/sshd -f ~/.ssh/sshd_config")

    def install(self, digest: str) -> None:
        """Leave what `deploy/node.sh install` leaves, without a download: a .venv that lends our packages.

        The packages are those of this process; the code of the checkout is not among them.
        """
        venv = self.home / "ftcl-study/.venv"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
        [packages] = venv.glob("lib/python*/site-packages")
        (packages / "lent.pth").write_text(f"{Path(sys.prefix, *packages.relative_to(venv).parts)}\n")
        script = Path(sys.prefix, "bin/ray").read_text().partition("\n")[2]
        (venv / "bin/ray").write_text(f"#!{_HOME}/ftcl-study/.venv/bin/python\n{script}")
        (venv / "bin/ray").chmod(0o755)
        for mark in ("python", "study", "cluster"):  # as the Makefile leaves them
            (venv / mark).touch()
        (venv / "installed").write_text(digest)
        libraries = Path("ftcl/dp/backends")
        (venv.parent / libraries).mkdir(parents=True, exist_ok=True)
        for library in (_ROOT / libraries).glob("_native*"):
            shutil.copy2(library, venv.parent / libraries)

    def unplug(self) -> None:
        """Pull the network cable."""
        _ip("link", "set", self._cable, "down")

    def plug_in(self) -> None:
        _ip("link", "set", self._cable, "up")

    def processes(self) -> list[Process]:
        """Return what runs on the machine beside its first process and its sshd."""
        namespace = os.readlink(f"/proc/{self._first}/ns/pid")
        found = []
        for entry in os.listdir("/proc"):
            try:
                if not entry.isdigit() or os.readlink(f"/proc/{entry}/ns/pid") != namespace:
                    continue
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
            except OSError:
                continue  # it has ended
            if command and int(entry) != self._first and not command.startswith(("sshd: ", "sleep 3600")):
                found.append(Process(int(entry), command))
        return found

    def end_processes(self) -> None:
        """End all that `processes` finds."""
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)

    def remove(self) -> None:
        """Switch the machine off: its processes, mounts and network go with its first process."""
        os.kill(self._first, signal.SIGKILL)
        self._process.wait()  # which waits for all of them

    def _find_first(self) -> int:
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not (found := children.read_text().split()):
            assert time.monotonic() < deadline and self._process.poll() is None, f"{self.name} does not start"
            time.sleep(0.01)
        return int(found[0])

    def _wait_until_booted(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        booted = Path("/proc", str(self._first), "root", "run", "booted")
        while not booted.exists():
            assert time.monotonic() < deadline and self._process.poll() is None, f"{self.name} does not start"
            time.sleep(0.01)


_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@contextmanager
def running_hosts(names: Sequence[str], folder: Path) -> Iterator[dict[str, Host]]:
    """Start machines of these names, with their disks in `folder`, and remove them after the block."""
    require_programs()
    _ip("link", "add", _BRIDGE, "type", "bridge")
    _ip("link", "set", _BRIDGE, "up")
    shared = folder / "shared"
    shared.mkdir(parents=True)
    hosts: dict[str, Host] = {}
    try:
        for number, name in enumerate(names, start=1):
            hosts[name] = Host(name, f"{_NETWORK}.{number}", folder / name, shared)
        yield hosts
    finally:
        for host in hosts.values():
            host.remove()
        _ip("link", "delete", _BRIDGE)


def require_programs() -> None:
    """Install the Debian packages of what machines need and this one lacks."""
    missing = [package for program, package in _PACKAGES.items() if shutil.which(program, path=_PATH) is None]
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
            subprocess.run(["apt-get", "--quiet", *command], env=environment, check=True, timeout=600)


def _ip(*arguments: str) -> None:
    subprocess.run([shutil.which("ip", path=_PATH) or "ip", *arguments], check=True)
