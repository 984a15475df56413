"""What is wrong with a cluster is said within 10 s, by the doctor and by a study: on a head and two nodes."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.chaos.cluster import ROOT, Cluster, Peculiar
from ftcl.data import synthetic
from tests.system.s3 import Server, running_server

LIMIT_S = 10.0
# Alone on two cores with the whole cluster, commands take 4 to 10 s; twice that, where other tests run too.
SLACK = 2.0
HANG_S = 8.0  # that storage may take to answer
ODD, ODD_ADDRESS = "node2", "127.0.0.3"
UNSEEN = ["unshare", "--pid", "--fork", "--mount-proc"]  # as on a machine without any of Ray's processes


@dataclass(frozen=True)
class Ended:
    """How a command has ended."""

    status: int
    text: str
    seconds: float

    def says(self, *words: str) -> bool:
        flat = " ".join(self.text.split())
        return all(word in flat for word in words)


class Field:
    """A cluster and what its studies need."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.data = folder / "data"
        self.shared = folder / "shared"
        self.shared.mkdir()
        shutil.copytree(synthetic.build(0), self.data)

    def command(self, *arguments: str, prefix: tuple[str, ...] = (), **variables: str | None) -> Ended:
        """Run `run_study.py` as a user of the cluster."""
        given = self.cluster.environment("driver") | {"COLUMNS": "400", **variables}
        environment = {name: value for name, value in given.items() if value is not None}
        started_s = time.monotonic()
        done = subprocess.run(
            [*prefix, sys.executable, "run_study.py", *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        seconds = time.monotonic() - started_s
        print(
            f"{' '.join(arguments)}\n{done.stdout}{done.stderr}exit status {done.returncode}, {seconds:.1f} s"
        )
        return Ended(done.returncode, done.stdout + done.stderr, seconds)

    def doctor(self, *arguments: str, **options: str | None) -> Ended:
        return self.command("doctor", "--address", self.cluster.address, *arguments, **options)

    def study(self, out: str, *arguments: str, **options: str | None) -> Ended:
        what = ["--space", "fsd_lcs", "--data", f"acm:{self.data}", "--out", out, "--trials", "1"]
        return self.command(*what, "--address", self.cluster.address, *arguments, **options)

    def make_odd(self, **peculiar: dict[str, str] | dict[Path, Path]) -> None:
        """Start one node anew with what makes it differ."""
        self.cluster.start_node(ODD, Peculiar(**peculiar))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def field() -> Iterator[Field]:
    """One cluster for all tests; nodes run in one mount namespace each if they differ."""
    with tempfile.TemporaryDirectory(prefix="d", dir="/tmp") as name:
        cluster = Cluster(Path(name, "ray"))
        try:
            cluster.start()
            yield Field(cluster, Path(name))
        finally:
            cluster.kill()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as running:
        yield running


def in_time(ended: Ended) -> bool:
    return ended.seconds < LIMIT_S * SLACK


def test_a_healthy_cluster_is_well(field: Field) -> None:
    out = field.shared / "healthy"
    ended = field.doctor("--space", "fsd_lcs", "--data", f"acm:{field.data}", "--out", str(out))
    assert ended.status == 0
    assert ended.text.count("all well") == 5  # the cluster, the driver, three nodes
    assert "all is well" in ended.text
    assert not out.exists()


@dataclass(frozen=True)
class Unreachable:
    """An address or a token that leads nowhere."""

    words: tuple[str, ...]
    address: str | None = None
    variables: tuple[tuple[str, str | None], ...] = ()
    prefix: tuple[str, ...] = ()


UNREACHABLE = {
    "wrong_token": Unreachable(
        ("does not accept the token in RAY_AUTH_TOKEN", "copy the head's ~/.ray/auth_token"),
        variables=(("RAY_AUTH_TOKEN", "0" * 64),),
    ),
    "no_token": Unreachable(
        ("asks for a token, and there is none here", "copy the head's ~/.ray/auth_token"),
        variables=(("RAY_AUTH_TOKEN", None), ("RAY_AUTH_MODE", None), ("HOME", "/nowhere")),
    ),
    "no_listener": Unreachable(
        ("nothing answers at 127.0.0.1:1", "correct --address"), address="127.0.0.1:1"
    ),
    "no_cluster": Unreachable(
        ("finds no Ray cluster on this machine", "ray start --head"), address="auto", prefix=tuple(UNSEEN)
    ),
    "no_node": Unreachable(("this machine is not a node of", "ray job submit"), prefix=tuple(UNSEEN)),
    "client_address": Unreachable(("ray job submit", "HOST:PORT"), address="ray://127.0.0.1:10001"),
}


@pytest.mark.situation(
    "environment",
    "the token is wrong or missing, nothing answers at --address, or the machine is no node of the cluster",
    "one line within 10 s names what is missing and where it is to be had; exit status 2",
)
@pytest.mark.parametrize("case", UNREACHABLE)
@pytest.mark.parametrize("command", ["doctor", "study"])
def test_a_cluster_that_cannot_be_reached(field: Field, tmp_path: Path, command: str, case: str) -> None:
    wrong = UNREACHABLE[case]
    given = {"RAY_TMPDIR": str(tmp_path), **dict(wrong.variables)}
    where = ["--address", wrong.address] if wrong.address else []
    if command == "doctor":
        ended = field.doctor(*where, prefix=wrong.prefix, **given)
    else:
        ended = field.study(str(tmp_path / "out"), *where, prefix=wrong.prefix, **given)
        assert not (tmp_path / "out").exists()
    assert ended.status == 2 and ended.says("error: ", *wrong.words)
    assert "Traceback" not in ended.text
    assert in_time(ended)


def test_an_address_that_takes_connections_and_is_silent(field: Field) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        ended = field.doctor("--address", f"127.0.0.1:{silent.getsockname()[1]}")
    assert ended.status == 2 and ended.says("does not answer as a Ray cluster does")
    assert in_time(ended)


def test_a_token_file_is_found(field: Field, tmp_path: Path) -> None:
    """With nothing but the file, as on the head of a cluster that was made by `ray up`."""
    token = field.cluster.environment("driver")["RAY_AUTH_TOKEN"]
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray/auth_token").write_text(token)
    cache = os.environ["XDG_CACHE_HOME"]
    ended = field.doctor(HOME=str(tmp_path), RAY_AUTH_TOKEN=None, RAY_AUTH_MODE=None, XDG_CACHE_HOME=cache)
    assert ended.status == 0


def pretend_version(folder: Path, package: str, version: str) -> str:
    """Return a folder that, first on the path, makes a package look like another version of it."""
    metadata = folder / "versions" / f"{package}-{version}.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    return os.pathsep.join((str(metadata.parent), str(ROOT)))


@pytest.mark.situation(
    "environment",
    "the machine of the command has another version of Ray or Python than the cluster",
    "one line with both versions, within 10 s; exit status 2",
)
@pytest.mark.parametrize("command", ["doctor", "study"])
def test_another_ray_than_the_cluster(field: Field, tmp_path: Path, command: str) -> None:
    path = pretend_version(tmp_path, "ray", "2.59.0")
    out = str(tmp_path / "out")
    ended = field.doctor(PYTHONPATH=path) if command == "doctor" else field.study(out, PYTHONPATH=path)
    assert ended.status == 2 and ended.says("this machine Ray 2.59.0", "constraints.txt")
    assert in_time(ended)


def odd_code(field: Field, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "study", tmp_path / "study", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "study/trial.py").open("a") as file:
        file.write("\n# changed\n")
    field.make_odd(mounts={ROOT / "study": tmp_path / "study"})


def odd_torch(field: Field, tmp_path: Path) -> None:
    field.make_odd(variables={"PYTHONPATH": pretend_version(tmp_path, "torch", "2.4.0")})


def odd_bare(field: Field, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    field.make_odd(mounts={ROOT / "study": empty, ROOT / "ftcl": empty})


def odd_no_data(field: Field, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    field.make_odd(mounts={field.data: tmp_path / "none"})


def odd_other_data(field: Field, tmp_path: Path) -> None:
    shutil.copytree(synthetic.build(1), tmp_path / "other")
    field.make_odd(
        mounts={field.data: tmp_path / "other"}, variables={"XDG_CACHE_HOME": str(tmp_path / "cache")}
    )


def odd_own_disk(field: Field, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    field.make_odd(mounts={field.shared: tmp_path / "own"})


ODDITIES: dict[str, tuple[Callable[[Field, Path], None], tuple[str, ...]]] = {
    "other code": (odd_code, ("source", "other code than here: study/trial.py", "ray up")),
    "another torch": (odd_torch, ("versions", "torch 2.4.0, here", "constraints.txt")),
    "no installation": (odd_bare, ("source", "not installed there", "deploy/node.sh install")),
    "no data": (odd_no_data, ("data", "gt.json", "same path there")),
    "other data": (odd_other_data, ("data", "same data")),
    "own disk": (odd_own_disk, ("storage", "another folder there", "s3://")),
}


@pytest.mark.situation(
    "environment",
    "one node of a cluster has other code, another torch, no installation, no data or others, or an own disk "
    "where the results should lie",
    "the study does not start: within 10 s it names node, difference and fix; so does run_study.py doctor",
)
@pytest.mark.parametrize("oddity", ODDITIES)
def test_one_node_differs(field: Field, tmp_path: Path, oddity: str) -> None:
    make_odd, words = ODDITIES[oddity]
    make_odd(field, tmp_path)
    out = field.shared / "odd"
    ended = field.doctor("--data", f"acm:{field.data}", "--out", str(out))
    assert ended.status == 1 and ended.says(ODD_ADDRESS, *words)
    assert ended.text.count("all well") == 4
    assert in_time(ended)
    ended = field.study(str(out))
    assert ended.status == 2 and ended.says("the cluster is not fit for this study", ODD_ADDRESS, *words)
    assert in_time(ended)
    assert not out.exists()


HANGING = """
import os, time

real = os.fsync

def hang(file):
    if os.readlink(f"/proc/self/fd/{file}").startswith(os.environ["HANGING"]):
        time.sleep(600)
    real(file)

os.fsync = hang
"""


@pytest.mark.situation(
    "storage",
    "the shared folder of one node of a cluster hangs, as a mount does whose server is gone",
    "the study does not start: 8 s after asking, it names node, fix and what may be left there; so does "
    "run_study.py doctor",
)
@pytest.mark.parametrize("command", ["doctor", "study"])
def test_one_node_hangs(field: Field, tmp_path: Path, command: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(HANGING)
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    out = field.shared / f"hanging_{command}"
    field.cluster.start_node(ODD, Peculiar({"PYTHONPATH": path, "HANGING": str(out)}))
    if command == "doctor":
        ended = field.doctor("--data", f"acm:{field.data}", "--out", str(out))
        assert ended.status == 1 and ended.text.count("all well") == 4
    else:
        ended = field.study(str(out))
        assert ended.status == 2
    assert ended.says(ODD_ADDRESS, "storage", "the mount does not answer there", "df", f"{out}/.doctor-")
    assert ended.seconds < LIMIT_S * SLACK + HANG_S
    assert [path.name for path in out.iterdir() if not path.name.startswith(".doctor-")] == []


@pytest.mark.situation(
    "storage",
    "one node of a cluster has no keys for the object storage of --out",
    "the study does not start: within 10 s it names the node; so does run_study.py doctor",
)
def test_one_node_has_no_keys(field: Field, tmp_path: Path, server: Server) -> None:
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "wrong", "HOME": str(tmp_path)}
    keys = {**server.make_keys("s3:*"), "AWS_EC2_METADATA_DISABLED": "true"}
    for node, variables in (("node1", keys), (ODD, none)):
        field.cluster.start_node(node, Peculiar(variables))
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    with server.asking_for_keys():
        ended = field.doctor("--out", server.uri("odd"), **keys)
        assert ended.status == 1 and ended.says(ODD_ADDRESS, "storage", "cannot write to s3://", "keys")
        assert "127.0.0.2 ✗" not in " ".join(ended.text.split())
        assert in_time(ended)
        ended = field.study(server.uri("odd"), "--ledger", ledger, **keys)
    assert ended.status == 2 and ended.says(f"{ODD_ADDRESS}: storage: cannot write to s3://")
    assert in_time(ended)


@pytest.mark.parametrize("how", ["refuses", "is silent"])
def test_storage_that_nobody_reaches(field: Field, tmp_path: Path, how: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1] if how == "is silent" else 1
        uri = f"s3://studies/x?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"
        keys = {
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        doctor = field.doctor("--out", uri, **keys)
        study = field.study(uri, "--ledger", f"sqlite:///{tmp_path}/ledger.db", **keys)
    assert doctor.status == 1 and doctor.says("✗ storage", "cannot write to s3://", "choose another --out")
    assert study.status == 2 and study.says("cannot write to s3://", "choose another --out")
    # A silent server is given up after the store's own limit of nearly 10 s.
    assert doctor.seconds < LIMIT_S * SLACK + 10 and study.seconds < LIMIT_S * SLACK + 10


def test_more_gpus_than_any_node_has(field: Field) -> None:
    ended = field.doctor("--space", "fsd_lcs", "--data", f"acm:{field.data}", "--gpus-per-trial", "1")
    assert ended.status == 1 and ended.says("✗ resources", "asks for", "--gpus-per-trial")
    assert in_time(ended)
    ended = field.study(str(field.shared / "gpus"), "--gpus-per-trial", "1")
    assert ended.status == 2 and ended.says("asks for", "--gpus-per-trial")
    assert in_time(ended)
