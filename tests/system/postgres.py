"""A PostgreSQL server of the tests' own: Debian's package, a temporary folder, loopback, with a password."""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

USER = "study_owner"


class Server:
    """Starts, stops and restarts one server; `url` and `password` are how to reach it."""

    def __init__(self, programs: Path, folder: Path, account: str) -> None:
        self.find_programs = programs
        self._folder = folder
        self._account = account
        self.port = _free_port()
        self.password = secrets.token_hex(8)

    def url(self, database: str = "postgres", *, password: str | None = None) -> str:
        """Return the address of a database, as its owner."""
        return f"postgresql://{USER}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def create(self) -> None:
        """Make the data folder."""
        secret = self._folder / "password"
        secret.write_text(self.password)
        shutil.chown(secret, self._account)
        self._run(
            "initdb", "-D", "data", "-U", USER, "--auth=scram-sha-256", "--pwfile=password", "--encoding=UTF8"
        )

    def start(self) -> None:
        """Start the server and wait until it answers."""
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=on"
        self._run("pg_ctl", "-D", "data", "-l", "log", "-w", "-o", options, "start")

    def ensure_started(self) -> None:
        """Start the server if it does not run."""
        if not (self._folder / "data/postmaster.pid").exists():
            self.start()

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: "fast" cuts its connections, "immediate" is a crash."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.find_programs / program), *arguments]
        # The server refuses to be root.
        user = self._account if os.geteuid() == 0 else None
        done = subprocess.run(
            command,
            cwd=self._folder,
            user=user,
            group=pwd.getpwnam(self._account).pw_gid if user else None,
            extra_groups=[] if user else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}"


@contextmanager
def running_server() -> Iterator[Server]:
    """Start a server, install it first if it is not there, and leave nothing of it behind."""
    programs = find_programs()
    account = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="study-postgres-"))
    shutil.chown(folder, account)
    server = Server(programs, folder, account)
    try:
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop("immediate")
    finally:
        shutil.rmtree(folder)


def find_programs() -> Path:
    """Return the folder of the server's programs; Debian's package is installed if there is none."""
    found = _installed()
    if found is None:
        apt_get("update")
        apt_get("install", "--yes", "--no-install-recommends", "postgresql")
        found = _installed()
    assert found is not None, "Debian's package postgresql has no initdb"
    return found


def _installed() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    return next(
        (path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))[::-1]), None
    )


def apt_get(*arguments: str) -> None:
    """Give Debian's package manager a command; needs root and a network."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command: Sequence[str] = ["apt-get", "--quiet", *arguments]
    subprocess.run(command, env=environment, check=True, timeout=600, stdin=subprocess.DEVNULL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
