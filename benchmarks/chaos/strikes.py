"""What the adversary can do. A strike ends when the study is on its way again; None: nothing to hit yet."""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.chaos.cluster import NODES, Cluster, send
from benchmarks.chaos.driver import Driver
from benchmarks.chaos.watch import LEDGER, newest_running_checkpoint, read_held

_STOP_TIMEOUT_S: Final = 90.0  # for a driver that was asked to stop
_FILL_S: Final = 1.0  # of topping up what others free meanwhile
_TORN_LINES: Final = 8


@dataclass
class World:
    """What there is to strike, and what went wrong that no comparison would show."""

    cluster: Cluster
    driver: Driver
    out: Path
    disk: "SmallDisk | None" = None
    problems: list[str] = field(default_factory=list)


class SmallDisk:
    """A file system of its own in memory; needs root."""

    def __init__(self, folder: Path, num_bytes: int) -> None:
        self.folder = folder
        self._filler = folder / "filler"
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={num_bytes}", "tmpfs", str(folder)], check=True)

    def fill(self) -> None:
        """Leave not a byte free, unless somebody is writing just now."""
        with self._filler.open("ab") as file, suppress(OSError):
            status = os.statvfs(self.folder)
            if status.f_bavail:
                os.posix_fallocate(file.fileno(), file.tell(), status.f_bavail * status.f_frsize)

    def free(self) -> None:
        """Give back what was filled."""
        self._filler.unlink(missing_ok=True)

    def unmount(self) -> None:
        """End the file system, and all that is on it."""
        subprocess.run(["umount", str(self.folder)], check=True)


def kill_worker(world: World, rng: random.Random) -> str | None:
    """SIGKILL a process that runs a trial."""
    workers = world.cluster.workers()
    if not workers:
        return None
    pid = rng.choice(workers)
    send(pid, signal.SIGKILL)
    return f"worker {pid}"


def freeze_worker(world: World, rng: random.Random) -> str | None:
    """SIGSTOP a process that runs a trial, for some seconds."""
    workers = world.cluster.workers()
    if not workers:
        return None
    pid, seconds = rng.choice(workers), rng.uniform(2, 6)
    send(pid, signal.SIGSTOP)
    time.sleep(seconds)
    send(pid, signal.SIGCONT)
    return f"worker {pid} for {seconds:.1f} s"


def kill_raylet(world: World, rng: random.Random) -> str | None:
    """SIGKILL a node's raylet; its worker goes on as long as Ray lets it, then the node is started again."""
    found = _training_node(world, rng)
    if found is None:
        return None
    node, raylet, _ = found
    send(raylet, signal.SIGKILL)
    killed_s, pause_s = time.monotonic(), rng.uniform(1, 6)
    lived_s = 0.0
    while (since_s := time.monotonic() - killed_s) < pause_s:
        time.sleep(0.1)
        if world.cluster.workers(node):
            lived_s = since_s
    world.cluster.start_node(node)
    return f"{node}'s raylet {raylet}; its worker lived on for {lived_s:.1f} of {pause_s:.1f} s"


def kill_raylet_with_zombie(world: World, rng: random.Random) -> str | None:
    """The same, but its worker sleeps through it and wakes up as a zombie when its trial has moved on."""
    found = _training_node(world, rng)
    if found is None:
        return None
    node, raylet, workers = found
    for pid in workers:
        send(pid, signal.SIGSTOP)
    send(raylet, signal.SIGKILL)
    asleep_s, awake_s = rng.uniform(6, 10), rng.uniform(2, 4)
    time.sleep(asleep_s)
    for pid in workers:
        send(pid, signal.SIGCONT)
    time.sleep(awake_s)
    world.cluster.start_node(node)
    return f"{node}'s raylet {raylet}; worker {workers} woke up after {asleep_s:.1f} s, for {awake_s:.1f} s"


def _training_node(world: World, rng: random.Random) -> tuple[str, int, list[int]] | None:
    """Return a node with its raylet and its workers, if one has any."""
    raylets = {node: world.cluster.raylet(node) for node in NODES}
    workers = {node: world.cluster.workers(node) for node in NODES}
    found = [(node, raylet, workers[node]) for node, raylet in raylets.items() if raylet and workers[node]]
    return rng.choice(found) if found else None


def kill_driver(world: World, rng: random.Random) -> str | None:
    """SIGKILL the driver, and give the command again."""
    world.driver.kill()
    time.sleep(rng.uniform(0, 1.5))
    world.driver.start()
    return f"driver, launch {world.driver.launches - 1}"


def kill_everything(world: World, rng: random.Random) -> str | None:
    """SIGKILL every process of cluster and driver, as a power cut would; start all again."""
    count = world.cluster.kill()
    world.driver.wait(30)
    world.cluster.start()
    world.driver.start()
    return f"{count} processes"


def terminate_driver(world: World, rng: random.Random) -> str | None:
    """SIGTERM, as from a machine that is preempted."""
    return _stop_driver(world, "SIGTERM", lambda: world.driver.signal(signal.SIGTERM))


def interrupt_driver(world: World, rng: random.Random) -> str | None:
    """SIGINT, once or twice, as from a user at the keyboard."""
    pause_s = rng.choice([None, rng.uniform(0, 0.5)])

    def interrupt() -> None:
        world.driver.signal(signal.SIGINT)
        if pause_s is not None:
            time.sleep(pause_s)
            world.driver.signal(signal.SIGINT)

    return _stop_driver(world, "SIGINT" if pause_s is None else "SIGINT twice", interrupt)


def tear_ledger(world: World, rng: random.Random) -> str | None:
    """SIGKILL the driver and cut bytes off the ledger's end, up to some lines."""
    world.driver.kill()
    path = world.out / LEDGER
    lines = path.read_bytes().splitlines(keepends=True)
    cut = rng.randint(1, sum(len(line) for line in lines[-rng.randint(1, _TORN_LINES) :]))
    os.truncate(path, path.stat().st_size - cut)
    lost = len(lines) - len(path.read_bytes().splitlines())
    world.driver.start()
    return f"{cut} bytes, {lost} lines"


def damage_checkpoint(world: World, rng: random.Random) -> str | None:
    """Damage the newest checkpoint of a running trial, and SIGKILL the workers that could write another."""
    workers = world.cluster.workers()
    for pid in workers:
        send(pid, signal.SIGSTOP)
    path = newest_running_checkpoint(world.out) if workers else None
    if path is None:
        for pid in workers:
            send(pid, signal.SIGCONT)
        return None
    content, how = damaged(path.read_bytes(), rng)
    path.write_bytes(content)
    for pid in workers:
        send(pid, signal.SIGKILL)
    return f"{path.relative_to(world.out)}: {how}; workers {workers}"


def damaged(content: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Return a file's content with a byte changed or its end cut off, and which."""
    place = rng.randrange(len(content))
    if rng.random() < 0.5:
        return content[:place], f"cut to {place} of {len(content)} bytes"
    changed = content[place] ^ rng.randint(1, 255)
    return content[:place] + bytes([changed]) + content[
        place + 1 :
    ], f"byte {place} of {len(content)} changed"


def fill_disk(world: World, rng: random.Random) -> str | None:
    """Fill the file system of the results until the study stops; free it and give the command again.

    A greedy filler also takes what the study gives up to write its last words; then those may be missing.
    """
    disk, greedy = world.disk, rng.random() < 0.5
    assert disk is not None

    def fill() -> None:
        started_s = time.monotonic()
        while world.driver.runs and time.monotonic() < started_s + (_STOP_TIMEOUT_S if greedy else _FILL_S):
            disk.fill()
            time.sleep(0.05)

    how = "full disk, greedily" if greedy else "full disk"
    try:
        return _stop_driver(world, how, fill, free=disk.free, leaves_order=not greedy)
    finally:
        disk.free()


def _stop_driver(
    world: World,
    how: str,
    stop: Callable[[], None],
    *,
    free: Callable[[], None] = lambda: None,
    leaves_order: bool = True,
) -> str | None:
    """Make the driver stop by itself, look whether it left anything running, and start it again."""
    driver = world.driver
    if not driver.has_begun:
        return None
    started_s = time.monotonic()
    stop()
    code = driver.wait(_STOP_TIMEOUT_S)
    seconds = time.monotonic() - started_s
    free()
    if code is None:
        world.problems.append(f"{how}: launch {driver.launches} did not end within {seconds:.0f} s")
        driver.kill()
    elif code < 0:
        world.problems.append(f"{how}: launch {driver.launches} died of signal {-code}")
    elif leaves_order and (running := read_held(world.out).running):
        world.problems.append(f"{how}: launch {driver.launches} left trials {list(running)} running")
    driver.start()
    return f"{how}: launch {driver.launches - 1} ended with {code} after {seconds:.1f} s"


Strike = Callable[[World, random.Random], str | None]
KILLS: Final[Mapping[str, tuple[int, Strike]]] = {
    "worker": (14, kill_worker),
    "raylet": (6, kill_raylet),
    "zombie": (3, kill_raylet_with_zombie),
    "driver": (7, kill_driver),
    "everything": (4, kill_everything),
    "sigterm": (4, terminate_driver),
    "sigint": (4, interrupt_driver),
    "torn ledger": (4, tear_ledger),
    "checkpoint": (4, damage_checkpoint),
}
"""Strikes that end processes, and their shares of all kills."""
OTHERS: Final[Mapping[str, tuple[int, Strike]]] = {"full disk": (1, fill_disk), "frozen": (1, freeze_worker)}
"""Strikes that come on top of the kills."""
STRIKES: Final[Mapping[str, Strike]] = {kind: strike for kind, (_, strike) in {**KILLS, **OTHERS}.items()}
