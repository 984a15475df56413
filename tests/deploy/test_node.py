"""deploy/node.sh up to where it starts Ray: what it leaves alone, asks Ray for, and says is missing."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
RAY: Final = '#!/bin/sh\necho "ray $*; mode $RAY_AUTH_MODE, metrics $RAY_enable_metrics_collection"\n'


class Machine:
    """A machine's home with what a cluster file ships; `ray` there only says how it was called."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "ftcl-study"
        self.programs = home / "programs"
        shutil.copytree(ROOT / "deploy", self.folder / "deploy")
        shutil.copytree(ROOT / "ftcl/dp/backends/csrc", self.folder / "ftcl/dp/backends/csrc")
        for name in ("Makefile", "pyproject.toml", "constraints.txt"):
            shutil.copy2(ROOT / name, self.folder)

    def pretend_installed(self) -> None:
        (self.folder / ".venv/bin").mkdir(parents=True)
        (self.folder / ".venv/bin/ray").write_text(RAY)
        (self.folder / ".venv/bin/ray").chmod(0o755)
        (self.folder / ".venv/installed").write_text(self.run("wanted").stdout)

    def pretend_program(self, name: str, script: str) -> None:
        """Put a program before all others of its name."""
        self.programs.mkdir(exist_ok=True)
        (self.programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (self.programs / name).chmod(0o755)

    def give_token(self) -> Path:
        token = self.home / ".ray/auth_token"
        token.parent.mkdir()
        token.write_text("secret")
        return token

    def run(self, *arguments: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [self.folder / "deploy/node.sh", *arguments],
            env={"PATH": f"{self.programs}:{os.environ['PATH']}", "HOME": str(self.home), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_what_is_installed_is_left_alone(machine: Machine) -> None:
    machine.pretend_installed()
    for _ in range(2):
        assert machine.run("install").returncode == 0
    [line] = [line for line in (machine.home / ".bashrc").read_text().splitlines() if "PATH" in line]
    assert f'"{machine.folder}/.venv/bin:$PATH" RAY_AUTH_MODE=token' in line


def test_other_pins_are_installed(machine: Machine) -> None:
    machine.pretend_installed()
    with (machine.folder / "constraints.txt").open("a") as pins:
        pins.write("# another\n")
    done = machine.run("install", PYTHON="no-such-python")
    assert done.returncode == 1
    assert "no-such-python is not a Python of at least 3.11" in done.stderr
    assert "the installation failed" in done.stderr


def test_another_build_of_torch_is_installed_anew(machine: Machine) -> None:
    machine.pretend_program("nvidia-smi", "exit 9")
    machine.pretend_installed()
    machine.pretend_program("make", "mkdir .venv && echo made anew")  # fails if .venv is there
    assert machine.run("install").stdout == ""
    assert machine.run("install", "gpu").stdout == "made anew\n"
    assert machine.run("install", "gpu").stdout == ""
    # The driver has been loaded, or another place of torch is named.
    machine.pretend_program("nvidia-smi", "echo GPU 0")
    assert machine.run("install").stdout == ""
    assert machine.run("install", TORCH_INDEX="https://example.org/torch").stdout == "made anew\n"


@pytest.mark.parametrize(("gpu", "packages"), [(True, "gcc libc6-dev python3-dev"), (False, "gcc libc6-dev")])
def test_a_bare_machine_gets_what_compilers_need(machine: Machine, gpu: bool, packages: str) -> None:
    """Triton builds a part of itself on the first use of a GPU."""
    for program in ("bash", "cat", "sha256sum", "head", "rm", "mkdir", "dirname", "hostname", "env", "grep"):
        machine.pretend_program(program, f'exec {shutil.which(program)} "$@"')
    machine.pretend_program("make", "mkdir .venv")
    machine.pretend_program("python3", '[[ "$*" != *Python.h* ]]')
    machine.pretend_program("apt-get", "true")
    machine.pretend_program("sudo", "true")
    done = machine.run("install", *["gpu"] * gpu, PATH=str(machine.programs))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"installing {packages}\n"


def test_head_listens_on_loopback_and_asks_for_the_token(machine: Machine) -> None:
    machine.pretend_installed()
    token = machine.give_token()
    done = machine.run("head", "--num-cpus=2")
    assert done.returncode == 0, done.stderr
    stopped, started = done.stdout.splitlines()
    assert stopped.startswith("ray stop;")
    assert "start --head" in started and "--dashboard-host=127.0.0.1" in started and "--num-cpus=2" in started
    assert started.endswith("mode token, metrics false")
    assert token.stat().st_mode & 0o077 == 0


class Worker:
    """A machine that has been started as a worker; its raylet is a process that only waits."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.log = machine.home / "log"
        machine.pretend_installed()
        machine.give_token()
        for name in ("ray", "sudo"):
            machine.pretend_program(name, f'echo "{name} $*" >> {self.log}; [[ "$*" != *--force ]]')
        shutil.copy2(machine.programs / "ray", machine.folder / ".venv/bin/ray")

    def start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        raylet = subprocess.Popen(["sleep", "100"])
        self.machine.pretend_program("pgrep", f"echo {raylet.pid}")
        self.log.write_text("")
        known = self._guard()
        started = self.machine.run("worker", *arguments, RAY_HEAD_IP="192.0.2.1", POWER_OFF_AFTER_S="2")
        assert started.returncode == 0, started.stderr
        wait_until(lambda: self._guard() not in ("", known))
        return raylet

    def wait_for(self, line: str) -> None:
        wait_until(lambda: line in self.log.read_text().splitlines())

    def _guard(self) -> str:
        pid = self.machine.home / ".ray/guard.pid"
        return pid.read_text() if pid.exists() else ""


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def end(raylet: "subprocess.Popen[bytes]") -> None:
    raylet.kill()
    raylet.wait()


POWER_OFF: Final = "sudo -n shutdown -h now"


def test_rented_machine_is_powered_off_when_its_ray_does_not_come_back(machine: Machine) -> None:
    worker = Worker(machine)
    raylet = worker.start("rented", "--num-cpus=2")
    assert "ray start --address=192.0.2.1:6379 --disable-usage-stats --num-cpus=2" in worker.log.read_text()
    end(raylet)
    worker.wait_for("ray stop --force")
    assert POWER_OFF not in worker.log.read_text()
    worker.wait_for(POWER_OFF)


def test_rented_machine_goes_on_when_its_ray_is_started_again(machine: Machine) -> None:
    worker = Worker(machine)
    end(worker.start("rented"))
    worker.wait_for("ray stop --force")
    raylet = worker.start("rented")
    time.sleep(4)
    assert POWER_OFF not in worker.log.read_text()
    end(raylet)
    worker.wait_for(POWER_OFF)


def test_machine_of_ones_own_is_not_powered_off(machine: Machine) -> None:
    worker = Worker(machine)
    end(worker.start())
    worker.wait_for("ray stop --force")
    time.sleep(4)
    assert POWER_OFF not in worker.log.read_text()


def test_what_is_missing_is_named(machine: Machine) -> None:
    assert "RAY_HEAD_IP is not set" in machine.run("worker").stderr
    assert "run deploy/node.sh install" in machine.run("worker", RAY_HEAD_IP="192.0.2.1").stderr
    machine.pretend_installed()
    done = machine.run("head")
    assert done.returncode == 1 and done.stdout == ""
    assert f"there is no {machine.home}/.ray/auth_token" in done.stderr and "get-auth-token" in done.stderr
    assert "usage: deploy/node.sh" in machine.run().stderr
