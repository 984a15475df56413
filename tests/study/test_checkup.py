"""What nodes are asked before a study, and what becomes of their answers; the nodes are made up."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from study import checkup, inspection
from study.checkup import Wanted, examine_nodes, require_fit_nodes
from study.manifest import PACKAGES
from study.plan import LaunchError, Plan
from study.store import open_store
from study.tune import nodes as tune_nodes
from study.tune.nodes import Node, Silence, Skew
from study.verdicts import Place

HEAD = Node("0" * 40, "head", "10.0.0.1", 0.0, 0.0, True)
ONE = Node("1" * 40, "one.cluster", "10.0.0.2", 2.0, 0.0, False)
TWO = Node("2" * 40, "two.cluster", "10.0.0.3", 2.0, 0.0, False)
UNWRITABLE = {"trouble": "Permission denied", "sees": False}


class MadeUp:
    """Nodes that answer as this machine does, except for what a test replaces."""

    def __init__(self, replaced: Mapping[tuple[str, str], Any], nodes: Sequence[Node]) -> None:
        self.nodes, self._replaced = list(nodes), replaced
        self.asked: list[tuple[str, str]] = []

    def __enter__(self) -> "MadeUp":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ask(
        self, question: str, arguments: Mapping[str, Sequence[Any]], timeout_s: float = 0
    ) -> dict[str, Any]:
        answers = {}
        for node, given in arguments.items():
            self.asked.append((node, question))
            answer = self._replaced.get((node, question))
            answers[node] = getattr(inspection, question)(*given) if answer is None else answer
        return answers

    def ask_all(self, question: str, *given: Any) -> dict[str, Any]:
        return self.ask(question, {node.id: given for node in self.nodes})

    def skews(self, nodes: Sequence[str]) -> dict[str, Skew]:
        return {node: self._replaced.get((node, "skew"), Skew(0.001, 0.0005)) for node in nodes}


@pytest.fixture
def make_nodes(monkeypatch: pytest.MonkeyPatch) -> Callable[..., MadeUp]:
    """Return a function that puts made-up nodes in the place of a cluster's."""
    monkeypatch.setattr(inspection, "_GPU_DEVICES", ())
    monkeypatch.setattr(inspection, "_READ_PAUSE_S", 0.01)

    def make(
        replaced: Mapping[tuple[str, str], Any] = {}, nodes: Sequence[Node] = (HEAD, ONE, TWO)
    ) -> MadeUp:
        made = MadeUp(replaced, nodes)
        monkeypatch.setattr(tune_nodes, "Nodes", lambda: made)
        return made

    return make


def troubles(places: Sequence[Place]) -> list[tuple[str, str, str]]:
    return [(place.name, finding.level, finding.check) for place in places for finding in place.findings]


def look(**changes: Any) -> dict[str, Any]:
    return {**copy.deepcopy(inspection.look(PACKAGES)), **changes}


def test_like_nodes_are_well_and_nothing_is_left(make_nodes: Callable[..., MadeUp], tmp_path: Path):
    make_nodes()
    places = examine_nodes(Wanted(out=str(tmp_path / "out")))
    assert troubles(places) == []
    assert [place.name for place in places] == ["head 10.0.0.1", "one 10.0.0.2", "two 10.0.0.3"]
    assert places[0].facts.startswith("head, no trials, clock +1 ms")
    assert places[1].facts.startswith("2 CPU, 0 GPU, clock +1 ms")
    assert list(tmp_path.iterdir()) == []


def test_a_silent_node_is_named_and_asked_no_more(make_nodes: Callable[..., MadeUp], tmp_path: Path):
    nodes = make_nodes({(ONE.id, "look"): Silence("no answer within 8 s")})
    places = examine_nodes(Wanted(out=str(tmp_path)))
    assert troubles(places) == [("one 10.0.0.2", "error", "answer")]
    assert [question for node, question in nodes.asked if node == ONE.id] == ["look"]


def test_a_silent_node_is_no_obstacle_to_a_launch(make_nodes: Callable[..., MadeUp], tmp_path: Path):
    make_nodes({(ONE.id, "look"): Silence("no answer within 8 s")})
    places = examine_nodes(Wanted(out=str(tmp_path)), brief=True)
    assert troubles(places) == [("one 10.0.0.2", "warning", "answer")]


@pytest.mark.situation(
    "kill",
    "a node, or the process that looks at it, dies while a launch looks whether the cluster is fit",
    "a warning; the study runs on the nodes that are left",
)
def test_a_node_that_is_lost_in_the_middle_is_no_obstacle_to_a_launch(
    make_nodes: Callable[..., MadeUp], tmp_path: Path
):
    make_nodes({(ONE.id, "exchange_probes"): Silence("The actor died unexpectedly", is_lost=True)})
    for brief, level in ((True, "warning"), (False, "error")):
        places = examine_nodes(Wanted(out=str(tmp_path)), brief=brief)
        assert troubles(places) == [("one 10.0.0.2", level, "answer")]


def test_a_node_without_the_project_is_asked_no_more_than_it_can_answer(
    make_nodes: Callable[..., MadeUp], tmp_path: Path
):
    nodes = make_nodes({(ONE.id, "look"): look(source={}, native=False)})
    places = examine_nodes(Wanted(out=str(tmp_path)), brief=True)
    assert troubles(places) == [("one 10.0.0.2", "error", "source")]
    assert [question for node, question in nodes.asked if node == ONE.id] == ["look"]


def test_a_node_that_runs_no_trials_needs_neither_data_nor_storage(
    make_nodes: Callable[..., MadeUp], tmp_path: Path
):
    nodes = make_nodes()
    examine_nodes(Wanted(str(tmp_path), f"acm:{tmp_path}", fingerprint="f"), brief=True)
    assert {question for node, question in nodes.asked if node == HEAD.id} == {"look"}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (UNWRITABLE, "Permission denied"),
        ({"trouble": "", "sees": False}, "another folder"),
        ({"trouble": "", "sees": True}, "another folder"),  # and nothing of it arrives here
    ],
)
def test_storage_of_one_node(
    make_nodes: Callable[..., MadeUp], tmp_path: Path, answer: dict[str, Any], found: str
):
    make_nodes({(TWO.id, "exchange_probes"): answer})
    places = examine_nodes(Wanted(out=str(tmp_path)))
    assert troubles(places) == [("two 10.0.0.3", "error", "storage")]
    assert found in places[2].findings[0].found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("brief", [False, True])
def test_a_node_whose_mount_hangs_is_waited_for_once(
    make_nodes: Callable[..., MadeUp], tmp_path: Path, brief: bool
):
    """Its process never returns from the kernel, so it could answer nothing else."""
    nodes = make_nodes({(TWO.id, "exchange_probes"): Silence("no answer within 8 s")})
    spec = f"acm:{tmp_path}"
    places = examine_nodes(Wanted(str(tmp_path), spec, fingerprint="f"), brief=brief)
    [finding] = places[2].findings
    assert finding.level == "error" and "the mount does not answer there" in finding.found
    assert "`df` hangs too" in finding.fix
    assert [question for node, question in nodes.asked if node == TWO.id] == ["look", "exchange_probes"]
    assert (ONE.id, "remove_probes") in nodes.asked
    assert list(tmp_path.iterdir()) == []


def test_a_node_whose_gpus_are_not_told_of_is_not_well(make_nodes: Callable[..., MadeUp]):
    failed = {"names": ["A10G"], "failed": "Failed to find C compiler.", "trouble": ""}
    gpu = replace(ONE, gpus=1.0)
    for answer, check in ((Silence("no answer within 100 s"), "answer"), (failed, "GPUs")):
        make_nodes({(gpu.id, "gpus"): answer}, (HEAD, gpu))
        assert troubles(examine_nodes(Wanted())) == [("one 10.0.0.2", "error", check)]
        assert troubles(examine_nodes(Wanted(), brief=True)) == []


def test_other_examinations_of_the_same_store_keep_their_probes(make_nodes: Callable[..., MadeUp]):
    store = open_store("memory://examined/out")
    store.write(".doctor-0/driver", b"")
    make_nodes()
    assert troubles(examine_nodes(Wanted(out=store.location))) == []
    assert list(store.states()) == [".doctor-0/driver"]


def test_before_a_launch_only_what_is_quick_is_asked(make_nodes: Callable[..., MadeUp], tmp_path: Path):
    for spec, asks in (("watch", False), ("acm:s3://bucket/data", False), (f"acm:{tmp_path}", True)):
        nodes = make_nodes({(node.id, "check_data"): Silence("slow") for node in (ONE, TWO)})
        assert troubles(examine_nodes(Wanted(None, spec, fingerprint="f"), brief=True)) == []
        assert ("check_data" in {question for _, question in nodes.asked}) == asks
        assert "gpus" not in {question for _, question in nodes.asked}


def test_a_launch_is_refused_with_all_that_is_wrong(
    make_nodes: Callable[..., MadeUp], make_small_plan: Callable[..., Plan]
):
    plan = make_small_plan()
    assert plan.store.local is not None
    plan.store.local.mkdir()
    make_nodes()
    assert require_fit_nodes(plan) == []
    make_nodes({(ONE.id, "skew"): Skew(10.0, 0.001)})
    [warning] = require_fit_nodes(plan)
    assert warning.startswith("one 10.0.0.2: clock: 10.0 s ahead")
    make_nodes({(ONE.id, "look"): look(source={}), (TWO.id, "exchange_probes"): UNWRITABLE})
    with pytest.raises(LaunchError, match="not fit") as raised:
        require_fit_nodes(plan)
    assert "one 10.0.0.2: source: " in str(raised.value)
    assert "two 10.0.0.3: storage: " in str(raised.value)
    assert list(plan.store.local.iterdir()) == []


def test_a_place_that_the_driver_cannot_write_is_not_asked_of_nodes(
    make_nodes: Callable[..., MadeUp], tmp_path: Path
):
    (tmp_path / "file").write_text("")
    nodes = make_nodes()
    with pytest.raises(LaunchError, match="cannot write to"):
        checkup.examine_nodes(Wanted(out=str(tmp_path / "file")))
    assert "exchange_probes" not in {question for _, question in nodes.asked}
