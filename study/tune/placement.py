"""Where an attempt may run: its share of a node, away from the nodes where its trial has failed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import ray
from ray import tune
from ray._private.state import state

from study.spec import Resources

_NODE_LABEL: Final = "ray.io/node-id"  # Ray gives it to every node


def request(held: Resources, avoid: Sequence[str]) -> tune.PlacementGroupFactory:
    """Return what to ask Ray for; nodes are avoided only while another one could run the trial."""
    bundle = {"CPU": held.cpus, "GPU": held.gpus}
    if avoid and has_room_elsewhere(held, avoid):
        selector = {_NODE_LABEL: f"!in({','.join(avoid)})"}
        return tune.PlacementGroupFactory([bundle], bundle_label_selector=[selector])
    return tune.PlacementGroupFactory([bundle])


def has_room_elsewhere(held: Resources, avoid: Sequence[str]) -> bool:
    """Say whether a live node that is not to be avoided, nor goes, has, busy or not, what a trial holds."""
    draining = draining_nodes()
    return any(
        node["Resources"].get("CPU", 0.0) >= held.cpus and node["Resources"].get("GPU", 0.0) >= held.gpus
        for node in live_nodes()
        if node["NodeID"] not in avoid and node["NodeID"] not in draining
    )


def draining_nodes() -> set[str]:
    """Return the ids of the nodes that are to go soon; Ray starts nothing new there."""
    return set(state.get_draining_nodes())


def live_nodes() -> list[Mapping[str, Any]]:
    """Return Ray's records of the nodes that are alive."""
    return [node for node in ray.nodes() if node["Alive"]]
