"""Ask every node of the connected cluster what a study needs to know of it, before the first trial."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from ftcl.recipes.protocol import holds_out
from study import inspection
from study.manifest import PACKAGES
from study.plan import LaunchError, Plan
from study.store import open_store
from study.verdicts import (
    Finding,
    Place,
    judge_cache,
    judge_clock,
    judge_gpus,
    judge_hanging_storage,
    judge_software,
    judge_storage,
    show_bytes,
)

if TYPE_CHECKING:
    from study.tune.nodes import Node, Nodes

_STORAGE_TIMEOUT_S: Final = 8.0
_REMOVAL_TIMEOUT_S: Final = 1.0  # of nodes that have just answered
_GPU_TIMEOUT_S: Final = 100.0  # study.inspection gives up before
_DATA_TIMEOUT_S: Final = 600.0  # copying and reading all of it
_BRIEF_DATA_TIMEOUT_S: Final = 5.0


@dataclass(frozen=True)
class Case:
    """Which part of the data a study uses, as `open_data` takes it."""

    fold: int = 0
    seed: int = 0
    hold_out: bool = True


@dataclass(frozen=True)
class Wanted:
    """What every node must have, beside the software; None: not asked."""

    out: str | None = None
    data: str | None = None
    case: Case = Case()
    fingerprint: str | None = None


def require_fit_nodes(plan: Plan) -> list[str]:
    """Look at the live nodes of the cluster that this process is connected to, before the first trial.

    Returns warnings. Raises LaunchError with all that would fail trials. Data that are built or copied are
    left to the trials, and so is a check of data that takes long; so are nodes that come later.
    """
    options = plan.options
    case = Case(options.fold, options.data_seed, holds_out(options.protocol))
    places = examine_nodes(Wanted(plan.out, plan.data.spec, case, plan.data.fingerprint), brief=True)
    errors = [f"{place.name}: {finding}" for place in places for finding in place.errors]
    if errors:
        raise LaunchError("the cluster is not fit for this study:\n  " + "\n  ".join(errors))
    return [f"{place.name}: {finding}" for place in places for finding in place.findings]


def examine_nodes(wanted: Wanted, *, brief: bool = False) -> list[Place]:
    """Ask all live nodes at once; `brief`: only what is quick."""
    from study.tune.nodes import Nodes

    with Nodes() as nodes:
        return _examine(nodes, wanted, brief)


def _examine(nodes: "Nodes", wanted: Wanted, brief: bool) -> list[Place]:
    from study.tune.nodes import Silence

    ours = inspection.look(PACKAGES)
    seen = nodes.ask_all("look", PACKAGES)
    findings: dict[str, list[Finding]] = {node.id: [] for node in nodes.nodes}
    facts: dict[str, list[str]] = {node.id: [_show_resources(node)] for node in nodes.nodes}
    for node, answer in seen.items():
        if isinstance(answer, Silence):
            findings[node].append(_silent(answer.reason, brief))
    alive = [node for node in nodes.nodes if not isinstance(seen[node.id], Silence)]
    for node, skew in nodes.skews([node.id for node in alive]).items():
        findings[node] += judge_clock(skew.ahead_s, skew.uncertainty_s)
        facts[node].append(f"clock {skew.ahead_s * 1000:+.0f} ms")
    for each in alive:
        findings[each.id] += judge_software(ours, seen[each.id])
        findings[each.id] += judge_cache(seen[each.id]["cache"])
        facts[each.id].append(f"{show_bytes(seen[each.id]['cache']['free'])} free")
    # A machine without our package cannot be asked more; one that runs no trials needs no more.
    working = [node for node in alive if seen[node.id]["source"] and node.cpus > 0]
    if wanted.out is not None:
        hanging = _ask_storage(nodes, working, wanted.out, findings, brief)
        # They are busy with that question, and would be waited for with each that follows.
        alive = [node for node in alive if node.id not in hanging]
        working = [node for node in working if node.id not in hanging]
    if not brief:
        for node, answer in nodes.ask("gpus", {n.id: (n.gpus,) for n in alive}, _GPU_TIMEOUT_S).items():
            told = next(each.gpus for each in alive if each.id == node)
            if isinstance(answer, Silence):
                findings[node].append(_silent(answer.reason, brief))
            else:
                findings[node] += judge_gpus(answer, told)
                facts[node] += answer["names"][:1]
    if wanted.data is not None and not (brief and (":" not in wanted.data or "://" in wanted.data)):
        _ask_data(nodes, working, wanted, findings, brief)
    return [Place(_name(node), ", ".join(facts[node.id]), tuple(findings[node.id])) for node in nodes.nodes]


def _ask_storage(
    nodes: "Nodes",
    asked: Sequence["Node"],
    location: str,
    findings: Mapping[str, list[Finding]],
    brief: bool,
) -> set[str]:
    """Let each node write a file and read the driver's, and read theirs here; return the nodes that hang.

    Nothing is left behind, unless by a node that hangs.
    """
    from study.tune.nodes import Silence

    folder = f".doctor-{secrets.token_hex(4)}"  # of this examination alone: others may run
    store = open_store(location)
    folders = () if store.local is None else (store.local, *store.local.parents)
    made = [str(each) for each in folders if not each.exists()]
    names = {node.id: f"{folder}/{node.id[:12]}" for node in asked}
    own = f"{folder}/driver"
    trouble = inspection.write_probe(location, own)
    if trouble:
        raise LaunchError(f"cannot write to {location} ({trouble}); choose another --out")
    answered: list[str] = []
    try:
        question = {node: (location, name, own) for node, name in names.items()}
        answers = nodes.ask("exchange_probes", question, _STORAGE_TIMEOUT_S)
        silent = {node: answer for node, answer in answers.items() if isinstance(answer, Silence)}
        answered += answers.keys() - silent.keys()
        for node, silence in silent.items():
            if silence.is_lost:
                findings[node].append(_silent(silence.reason, brief))
            else:
                findings[node] += judge_hanging_storage(store.place(folder), silence.reason)
        # A node that does not see our file is in another folder, and what it wrote is not waited for.
        is_seen = inspection.read_probes(
            location, [names[node] for node in answered if answers[node]["sees"]]
        )
        for node in answered:
            trouble, sees = answers[node]["trouble"], answers[node]["sees"]
            findings[node] += judge_storage(location, trouble, is_seen.get(names[node], False), sees)
        return {node for node, silence in silent.items() if not silence.is_lost}
    finally:
        removed = {node: (location, [names[node]], made) for node in answered}
        nodes.ask("remove_probes", removed, _REMOVAL_TIMEOUT_S)
        others = [name for node, name in names.items() if node not in answered]
        inspection.remove_probes(location, [own, *others], made)


def _ask_data(
    nodes: "Nodes",
    asked: Sequence["Node"],
    wanted: Wanted,
    findings: Mapping[str, list[Finding]],
    brief: bool,
) -> None:
    from study.tune.nodes import Silence

    question = (wanted.data, asdict(wanted.case), wanted.fingerprint)
    timeout_s = _BRIEF_DATA_TIMEOUT_S if brief else _DATA_TIMEOUT_S
    for node, answer in nodes.ask("check_data", {each.id: question for each in asked}, timeout_s).items():
        if isinstance(answer, Silence):
            if not brief:
                fix = "wait for the copy, or look at the node's disk and network"
                findings[node].append(Finding("warning", "data", answer.reason, fix))
        elif answer:
            fix = "bring the same data to the same path there, share the folder, or give --data by a URI"
            findings[node].append(Finding("error", "data", answer, fix))


def _silent(reason: str, brief: bool) -> Finding:
    """Tell of a node that gives no answer. A study does without the nodes that are lost."""
    fix = "look at it with `ray status` and `ray list nodes`; take it out, or start it again"
    return Finding("warning" if brief else "error", "answer", reason, fix)


def _show_resources(node: "Node") -> str:
    trials = "no trials" if node.cpus == 0 else f"{node.cpus:g} CPU, {node.gpus:g} GPU"
    return f"head, {trials}" if node.is_head else trials


def _name(node: "Node") -> str:
    host = node.host.partition(".")[0]
    return node.address if node.host == node.address else f"{host} {node.address}"
