"""Look at every node of a cluster before a study does: what is wrong, where, and how to mend it."""

import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ftcl.data import DataError
from ftcl.recipes import RECIPES
from study import inspection
from study.capacity import Cluster, Node
from study.checkup import Case, Wanted, examine_nodes
from study.ledger_location import LedgerError, LedgerLocation, refuse
from study.manifest import PACKAGES, usable_cores
from study.plan import LaunchError
from study.spec import Space, load_space
from study.staging import open_data
from study.store import Store, StoreError, open_store
from study.verdicts import Finding, Place, Report, judge_cache, judge_gpus, judge_native, show_bytes


@dataclass(frozen=True)
class Questions:
    """What to look at; None: not asked."""

    space: str | None = None
    data: str | None = None
    out: str | None = None
    ledger: str | None = None
    gpus_per_trial: float | Literal["auto"] | None = None
    address: str | None = None


def examine(questions: Questions) -> Report:
    """Look at the nodes of the cluster at `address`, or at this machine alone, which starts nothing.

    Raises what a wrong argument raises, and ClusterError if the cluster cannot be reached.
    """
    space = None if questions.space is None else load_space(questions.space)
    if questions.address is None:
        gpus = inspection.gpus(0)
        driver, _ = _examine_driver(questions, space, gpus)
        here = Cluster((Node(usable_cores(), len(gpus["names"])),))
        findings = (*driver.findings, *_judge_resources(questions, space, here))
        return Report((replace(driver, findings=findings),))
    from study.tune.environment import prepare_environment

    prepare_environment(questions.address)
    from study.tune.cluster import connect

    with connect(questions.address, local_cpus=1) as cluster:
        driver, wanted = _examine_driver(questions, space, None)
        nodes = examine_nodes(wanted)
        more = f"; up to {cluster.more} more may come, and are not looked at" if cluster.kinds else ""
        summary = Place(
            "cluster",
            f"{len(nodes)} nodes, {cluster.cpus:g} CPU, {cluster.gpus:g} GPU{more}",
            tuple(_judge_resources(questions, space, cluster)),
        )
        return Report((summary, driver, *nodes))


def _examine_driver(
    questions: Questions, space: Space | None, gpus: Mapping[str, Any] | None
) -> tuple[Place, Wanted]:
    """Look at this machine; return it with what the nodes are to be asked. `gpus`: what it shall tell of."""
    seen = inspection.look(PACKAGES)
    findings = [*judge_cache(seen["cache"]), *judge_native(seen["native"])]
    facts = [f"Ray {seen['versions']['ray']}", f"torch {seen['versions']['torch']}"]
    if gpus is not None:
        facts.append(f"{len(gpus['names'])} GPU")
        findings += judge_gpus(gpus, len(gpus["names"]))
        if gpus["trouble"]:
            fix = "look at nvidia-smi; install a torch for its driver"
            findings.append(Finding("warning", "GPUs", f"torch sees none: {gpus['trouble']}", fix))
    facts.append(f"{show_bytes(seen['cache']['free'])} free")
    out, data, fingerprint = None, None, None
    location = questions.out or (None if space is None else f"studies/{space.name}")
    store = None
    try:
        if location is not None:
            store = open_store(location)
            store.check()
            out = store.location
    except StoreError as error:
        findings.append(_split("storage", str(error)))
    spec = questions.data or (None if space is None else space.data)
    if spec is not None:
        try:
            opened = open_data(spec, **asdict(Case()))
            data, fingerprint = opened.spec, opened.fingerprint
            facts.append(f"data {spec}")
        except (DataError, StoreError) as error:
            findings.append(Finding("error", "data", str(error), "put them there, or correct --data"))
    if questions.ledger is not None:
        findings += _judge_ledger(questions.ledger, store or open_store("."))
    place = Place(f"driver ({socket.gethostname()})", ", ".join(facts), tuple(findings))
    return place, Wanted(out, data, Case(), fingerprint)


def _judge_ledger(text: str, store: Store) -> Iterator[Finding]:
    """Open a ledger's place without leaving anything there."""
    try:
        location = LedgerLocation.parse(text, store)
        if location.kind == "postgresql":
            from study.ledger_server import ConnectionCut, connect

            try:
                connect(location).close()
            except ConnectionCut as error:
                refuse(location, error)
        elif location.path is not None and not location.path.parent.is_dir():
            fix = "make the folder, or correct --ledger"
            yield Finding("error", "ledger", f"{location.path.parent} does not exist", fix)
    except LedgerError as error:
        yield _split("ledger", str(error))


def _judge_resources(questions: Questions, space: Space | None, cluster: Cluster) -> Iterator[Finding]:
    if space is None:
        return
    wanted = {stage.name: space.resources_of(stage.name) for stage in RECIPES[space.recipe].stages}
    share = None if questions.gpus_per_trial == "auto" else questions.gpus_per_trial
    try:
        cluster.grant(wanted, share)
    except LaunchError as error:
        found, _, fix = str(error).rpartition(": ")
        yield Finding("error", "resources", found, fix)


def _split(check: str, message: str) -> Finding:
    """Make a finding of one of our messages, which end in what to do."""
    found, separator, fix = message.rpartition("; ")
    return Finding("error", check, found, fix) if separator else Finding("error", check, message, "")
