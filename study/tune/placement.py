"""Where an attempt may run: its share of a node, away from the nodes where its trial has failed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import ray
from ray import tune
from ray._private.state import state

from study.spec import Resources

_NODE_LABEL: Final = "ray.io/node-id"  # Ray gives it to every node


def request(held: Resources, avoid: Sequence[str]) -> tune.PlacementGroupFactory:
    """Return what to ask Ray for; nodes are avoided only while another one could run the trial."""
    bundle = {"CPU": held.cpus, "GPU": held.gpus}
    if avoid and has_room(held, avoid, nodes_that_stay()):
        selector = {_NODE_LABEL: f"!in({','.join(avoid)})"}
        return tune.PlacementGroupFactory([bundle], bundle_label_selector=[selector])
    return tune.PlacementGroupFactory([bundle])


def has_room(held: Resources, avoid: Sequence[str], nodes: Iterable[Mapping[str, Any]]) -> bool:
    """Say whether one of the nodes that is not to be avoided has, busy or not, what a trial holds."""
    return any(
        node["Resources"].get("CPU", 0.0) >= held.cpus and node["Resources"].get("GPU", 0.0) >= held.gpus
        for node in nodes
        if node["NodeID"] not in avoid
    )


def nodes_that_stay() -> list[Mapping[str, Any]]:
    """Return Ray's records of the nodes that are alive, and not to go soon."""
    draining = draining_nodes()
    return [node for node in live_nodes() if node["NodeID"] not in draining]


def draining_nodes() -> set[str]:
    """Return the ids of the nodes that are to go soon; Ray starts nothing new there."""
    return set(state.get_draining_nodes())


def live_nodes() -> list[Mapping[str, Any]]:
    """Return Ray's records of the nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]


def node_of_actor(actor: str | None) -> str | None:
    """Return the id of the node where an actor was, or was to be, also if it has died; None if not known."""
    if actor is None:
        return None
    return state.actor_table(actor).get("Address", {}).get("NodeID") or None
