"""Ask every live node of a cluster at once, and wait for none longer than it is given."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import ray
from ray import cloudpickle
from ray.exceptions import GetTimeoutError, RayActorError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study import inspection

_START_TIMEOUT_S: Final = 8.0
_ROUND_TRIPS: Final = 5
_HEAD: Final = "node:__internal_head__"


@dataclass(frozen=True)
class Node:
    """A live node as Ray knows it."""

    id: str
    host: str
    address: str
    cpus: float
    gpus: float
    is_head: bool


@dataclass(frozen=True)
class Skew:
    """How far a node's clock is ahead of this machine's, in seconds."""

    ahead_s: float
    uncertainty_s: float


class Nodes:
    """One warm actor on each live node, from which questions are asked; use it as a context."""

    def __init__(self) -> None:
        self.nodes = _live_nodes()
        # A node may lack our modules, or have others.
        cloudpickle.register_pickle_by_value(inspection)
        try:
            inspector: Any = ray.remote(num_cpus=0)(_make_inspector())
            self._actors: dict[str, Any] = {
                node.id: inspector.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
                ).remote()
                for node in self.nodes
            }
        finally:
            cloudpickle.unregister_pickle_by_value(inspection)

    def __enter__(self) -> "Nodes":
        return self

    def __exit__(self, *_: object) -> None:
        for actor in self._actors.values():
            ray.kill(actor)

    def ask(
        self, question: str, arguments: Mapping[str, Sequence[Any]], timeout_s: float = _START_TIMEOUT_S
    ) -> dict[str, Any]:
        """Ask nodes, by id, a function of study.inspection; return their answers.

        What a node does not answer in time, or cannot, is a Silence instead.
        """
        deadline = time.monotonic() + timeout_s
        asked = {
            node: self._actors[node].answer.remote(question, *given) for node, given in arguments.items()
        }
        return {node: _get(reference, deadline, timeout_s) for node, reference in asked.items()}

    def ask_all(self, question: str, *given: Any, timeout_s: float = _START_TIMEOUT_S) -> dict[str, Any]:
        """Ask all nodes the same."""
        return self.ask(question, {node.id: given for node in self.nodes}, timeout_s)

    def skews(self, nodes: Sequence[str], timeout_s: float = 2.0) -> dict[str, Skew]:
        """Return how far the clocks of nodes that have answered before are off."""
        return {node: skew for node in nodes if (skew := self._skew(node, timeout_s)) is not None}

    def _skew(self, node: str, timeout_s: float) -> Skew | None:
        best: Skew | None = None
        for _ in range(_ROUND_TRIPS):
            before = time.time()
            there = _get(self._actors[node].answer.remote("clock"), time.monotonic() + timeout_s, timeout_s)
            after = time.time()
            if isinstance(there, Silence):
                return best
            if best is None or (after - before) / 2 < best.uncertainty_s:
                best = Skew(there - (before + after) / 2, (after - before) / 2)
        return best


@dataclass(frozen=True)
class Silence:
    """Why a node has given no answer."""

    reason: str
    is_lost: bool = False  # its process there has died, or the node has


def _live_nodes() -> list[Node]:
    return [
        Node(
            id=node["NodeID"],
            host=node["NodeManagerHostname"],
            address=node["NodeManagerAddress"],
            cpus=node["Resources"].get("CPU", 0.0),
            gpus=node["Resources"].get("GPU", 0.0),
            is_head=_HEAD in node["Resources"],
        )
        for node in sorted(
            ray.nodes(), key=lambda node: (_HEAD not in node["Resources"], node["NodeManagerAddress"])
        )
        if node["Alive"]
    ]


def _make_inspector() -> type:
    """Return the class of the actors; a local one, which travels by value as the functions in it do."""
    answers: dict[str, Callable[..., Any]] = {
        function.__name__: function
        for function in (
            inspection.look,
            inspection.gpus,
            inspection.clock,
            inspection.exchange_probes,
            inspection.remove_probes,
            inspection.check_data,
        )
    }

    class Inspector:
        """Answers by the functions of study.inspection."""

        def answer(self, question: str, *given: Any) -> Any:
            return answers[question](*given)

    return Inspector


def _get(reference: Any, deadline: float, timeout_s: float) -> Any:
    try:
        return ray.get(reference, timeout=max(0.05, deadline - time.monotonic()))
    except GetTimeoutError:
        return Silence(f"no answer within {timeout_s:.0f} s")
    except RayError as error:
        return Silence(str(error).strip().splitlines()[0], is_lost=isinstance(error, RayActorError))
