"""From laptop to cluster: docs/cluster.md, word for word, on machines that are made for it.

Four machines (tests/system/hosts.py): a laptop with a copy of the checkout, and three hosts that it reaches
by ssh. One thing is prepared that the page would do: the packages of `deploy/node.sh install` are there
already, as on machines that were installed before, since three downloads of torch would take minutes and
gigabytes.

The tests are a story and run in order.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
import pytest

from tests.study.tune.workers import TRAINS
from tests.system.hosts import Host, running_hosts
from tests.system.page import Page, Terminal, edit

ROOT: Final = Path(__file__).resolve().parents[2]
HOSTS: Final = ("host1", "host2", "host3")  # the first one is the head
NOT_SHIPPED: Final = (".*", "build", "studies", "*.egg-info", "__pycache__", "_native*")
# A host gives one core and little memory: they share a machine.
SMALL: Final = " --num-cpus=1 --object-store-memory=100000000"


@dataclass(frozen=True)
class Lab:
    """The machines, and a terminal of the laptop."""

    laptop: Host
    hosts: dict[str, Host]
    terminal: Terminal
    shared: Path
    logs: Path

    @property
    def out(self) -> Path:
        return self.shared / "fsd_lcs"

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.out / f"{name}.parquet")

    def nodes(self) -> int:
        """Count the machines in the cluster, as its head sees them."""
        status = self.hosts["host1"].run(". ~/.bashrc && ray status || true")
        return sum(int(count) for count in re.findall(r"^ (\d+) local\.cluster\.node$", status, re.MULTILINE))


@pytest.fixture(scope="module")
def page() -> Page:
    return Page(ROOT / "docs/cluster.md")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The machines as they are before the page begins; nothing of them is left after the tests."""
    folder = tmp_path_factory.mktemp("lab")
    with running_hosts(["laptop", *HOSTS], folder) as machines:
        laptop = machines.pop("laptop")
        checkout = laptop.home / "ftcl-study"
        shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        digest = laptop.run("cd ftcl-study && deploy/node.sh wanted")
        laptop.run("mkdir -m 700 ~/.ssh && ssh-keygen -q -t ed25519 -N '' -C ftcl -f ~/.ssh/ftcl")
        laptop.install(digest)
        for host in machines.values():
            host.install(digest)
            host.start_sshd((laptop.home / ".ssh/ftcl.pub").read_text())
        logs = folder / "logs"
        logs.mkdir()
        yield Lab(laptop, machines, Terminal(laptop), folder / "shared", logs)
    shutil.rmtree(folder)


def wait_until(condition: Callable[[], bool], within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.5)


def test_a_machine_that_is_removed_leaves_nothing(tmp_path: Path) -> None:
    with running_hosts(["alone"], tmp_path) as machines:
        first = machines["alone"].run("touch ~/file; sleep 100 &>/dev/null & readlink /proc/self/ns/pid")
        assert (tmp_path / "alone/root/file").exists()
    assert not namespaces() & {first.strip()}
    links = subprocess.run(["ip", "-brief", "link"], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert [line.split()[0] for line in links.splitlines() if line.split()[0] != "lo"] == []


def namespaces() -> set[str]:
    """The namespaces in which processes run."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            found.add(os.readlink(process / "ns/pid"))
    return found


def test_three_machines_become_a_cluster(lab: Lab, page: Page) -> None:
    token = lab.terminal.run(page.take("On the laptop")).split()[-1]
    addresses = [host.address for host in lab.hosts.values()]
    changes = {
        "head_ip: 192.0.2.1 ": f"head_ip: {addresses[0]} ",
        "[192.0.2.2, 192.0.2.3]": f"[{', '.join(addresses[1:])}]",
        "ssh_user: ubuntu ": "ssh_user: root ",
        'node.sh head"': f'node.sh head{SMALL}"',
        "node.sh worker\n": f"node.sh worker{SMALL}\n",
    }
    edit(lab.laptop.home / "ftcl-study/deploy/on-prem.yaml", changes)
    lab.terminal.run(page.take("The machines"))
    wait_until(lambda: lab.nodes() == 3, within_s=150)
    assert "3 local.cluster.node" in lab.terminal.run(page.take("The machines"))
    for host in lab.hosts.values():
        shipped = host.home / ".ray/auth_token"
        assert shipped.read_text() == token
        assert shipped.stat().st_mode & 0o077 == 0


@pytest.mark.situation(
    "environment",
    "somebody without the token calls a cluster's ports",
    "each refuses at once, the dashboard is not even reachable",
)
def test_no_port_of_ray_answers_without_the_token(lab: Lab) -> None:
    for host in lab.hosts.values():
        listening = host.run("ss -Hltn | awk '{print $4}'").split()
        loopback = [place for place in listening if place.startswith(("127.", "[::1]", "[::ffff:127."))]
        ports = {place.rpartition(":")[2] for place in listening if place not in loopback} - {"22"}
        assert len(ports) >= 4, listening
        assert "8265" not in ports
        asked = lab.laptop.run(f"{CALL} {host.address} {' '.join(sorted(ports))}")
        answers = dict(line.split() for line in asked.splitlines())
        assert answers.keys() == ports
        assert set(answers.values()) <= {"401"} | NOT_HTTP, answers
        asked = lab.laptop.run(f"{GRPC} {host.address} {' '.join(sorted(ports))}")
        codes = {line.split()[0]: set(line.split()[1:]) for line in asked.splitlines()}
        assert not [port for port in ports if "OK" in codes[port]], codes
        spoken = [port for port in ports if "UNAUTHENTICATED" in codes[port]]
        assert len(spoken) >= (4 if host is lab.hosts["host1"] else 2), codes  # head, raylet, agent, client


NOT_HTTP: Final = {"BadStatusLine", "RemoteDisconnected", "ConnectionResetError", "URLError", "TimeoutError"}
# Prints the status of HTTP, or the name of the error of what speaks something else.
CALL: Final = """cd ftcl-study && .venv/bin/python -c "
import sys, urllib.request
for port in sys.argv[2:]:
    try:
        print(port, urllib.request.urlopen(f'http://{sys.argv[1]}:{port}/metrics', timeout=5).status)
    except Exception as error:
        print(port, getattr(error, 'code', type(error).__name__))
" """
# Prints what calls of Ray's services, one for each kind of process, end with.
GRPC: Final = """cd ftcl-study && GRPC_VERBOSITY=NONE .venv/bin/python -c "
import sys, grpc
calls = ('NodeInfoGcsService/GetAllNodeInfo', 'NodeManagerService/GetNodeStats',
         'ReporterService/HealthCheck', 'RayletDriver/ClusterInfo')
def code(port, call):
    with grpc.insecure_channel(f'{sys.argv[1]}:{port}') as channel:
        try:
            channel.unary_unary(f'/ray.rpc.{call}')(b'', timeout=5)
        except grpc.RpcError as error:
            return error.code().name
    return 'OK'
for port in sys.argv[2:]:
    print(port, *(code(port, call) for call in calls))
" """


def test_doctor_finds_every_machine_fit(lab: Lab, page: Page) -> None:
    report = lab.terminal.run(page.take("Fit for the study?"))
    assert all(host in report for host in HOSTS), report


@pytest.mark.situation(
    "kill",
    "`ray job stop`, which sends SIGTERM to all processes of a job",
    "running trials stop after their epoch, nothing is left running; the same command continues",
)
def test_job_from_the_laptop_stops_in_order(lab: Lab, page: Page) -> None:
    tunnel = Terminal(lab.laptop, lab.terminal.exports)
    tunnel.start(page.take("A study from the laptop"), lab.logs / "tunnel.log")
    wait_until(lambda: "LISTEN" in lab.laptop.run("ss -Hltn 'sport = :8265'"), within_s=30)
    lab.terminal.run(page.take("A study from the laptop"))
    log = lab.logs / "job.log"
    follows = lab.terminal.start(page.take("A study from the laptop"), log)
    wait_until(lambda: log.read_text().count("] complete ") >= 8, within_s=200)
    wait_until(lambda: hosts_that_trained(lab) == set(HOSTS), within_s=100)  # the tables lag by some 10 s
    lab.terminal.run(page.take("A study from the laptop"))
    assert follows.wait(30) == 0
    assert "told to end by SIGTERM; the same command continues" in log.read_text()
    trials = lab.table("trials")
    assert set(trials["status"]) <= {"complete", "waiting"}
    assert hosts_that_trained(lab) == set(HOSTS)
    assert set(lab.table("failures")["kind"]) == {"cancelled"}


def hosts_that_trained(lab: Lab) -> set[str]:
    path = lab.out / "trials.parquet"
    return set(lab.table("trials")["host"].dropna()) if path.exists() else set()


def test_own_space_file_travels_with_the_job(lab: Lab, page: Page) -> None:
    assert "confirmation trials" in lab.terminal.run(page.take("A space file of your own"))


@pytest.mark.situation(
    "kill",
    "the network of a machine is cut in mid-study, and comes back",
    "its trials go on elsewhere from their last epochs; the machine is taken up again",
)
@pytest.mark.timeout(700)
def test_study_outlives_a_machine_that_is_cut_off(lab: Lab, page: Page) -> None:
    cut_off = lab.hosts["host3"]
    log = lab.logs / "study.log"
    driver = lab.terminal.start(page.take("The same study from the head"), log)
    wait_until(lambda: any(TRAINS in process.command for process in cut_off.processes()), within_s=120)
    for _ in range(3):  # until the cut hits a trial: the machine may be between two
        time.sleep(3)
        cut_off.unplug()
        wait_until(lambda: lab.nodes() == 2, within_s=90)
        # Once it is back it is a machine like any other, so its trial shall go on elsewhere before that.
        with suppress(AssertionError):
            wait_until(lambda: goes_on_elsewhere(lab, cut_off), within_s=60)
        cut_off.plug_in()
        wait_until(lambda: lab.nodes() == 3, within_s=120)
        if goes_on_elsewhere(lab, cut_off):
            break
    assert driver.wait(300) == 0, log.read_text(errors="replace")[-3000:]

    trials = lab.table("trials")
    trials = trials[trials["superseded"].isna() & (trials["phase"] != "context")]
    assert set(trials["status"]) <= {"complete", "stopped"}
    assert not trials.duplicated(["phase", "stage", "arm", "seed", "proposal"]).any()
    failures = lab.table("failures")
    lost = failures[failures["kind"] != "cancelled"]
    assert set(lost["kind"]) == {"node_lost"} and set(lost["host"]) == {cut_off.name}, failures
    moved = trials[trials["trial"].isin(lost["trial"])]
    assert len(moved) == len(lost) and cut_off.name not in set(moved["host"])
    assert (trials["repeated_epochs"] <= 1).all()
    check_fences(lab.out / "checkpoints")
    check_reproduces(lab, int(moved["trial"].iloc[0]))


def goes_on_elsewhere(lab: Lab, cut_off: Host) -> bool:
    """Say whether a trial was lost, and all that were have begun elsewhere; the tables lag by some 10 s."""
    failures, trials = lab.table("failures"), lab.table("trials").set_index("trial")
    lost = failures[failures["kind"] == "node_lost"].set_index("trial")
    now = trials.loc[lost.index]
    return len(lost) > 0 and bool(((now["attempts"] > lost["attempt"]) & (now["host"] != cut_off.name)).all())


def check_fences(checkpoints: Path) -> None:
    """An attempt that has been replaced writes nothing more."""
    for begun in checkpoints.glob("*/*.begun"):
        earlier = (path for path in begun.parent.glob("*.pt") if path.name[:4] < begun.name[:4])
        assert all(path.stat().st_mtime <= begun.stat().st_mtime for path in earlier), begun


def check_reproduces(lab: Lab, trial: int) -> None:
    """A trial that two hosts have trained has the values that the laptop computes alone."""
    command = f".venv/bin/python run_study.py reproduce /mnt/shared/fsd_lcs --trial {trial}"
    lab.laptop.run(f"cd ftcl-study && {command}", timeout_s=120)


def test_nothing_is_left_when_the_cluster_is_down(lab: Lab, page: Page) -> None:
    lab.terminal.run(page.take("The results"))
    fetched = lab.laptop.home / "ftcl-study/ablation.md"
    assert fetched.read_bytes() == (lab.out / "ablation.md").read_bytes()
    assert (lab.hosts["host1"].home / "ray_bootstrap_key.pem").exists()
    lab.terminal.run(page.take("Down"))
    assert not any((host.home / "ray_bootstrap_key.pem").exists() for host in lab.hosts.values())
    lab.laptop.end_processes()  # the tunnel
    wait_until(lambda: not any(host.processes() for host in lab.hosts.values()), within_s=60)
    assert page.left == []
