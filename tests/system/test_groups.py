"""Requests for slots that are taken back at once, on a real cluster of two nodes."""

import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

SLOTS = 200


@pytest.fixture
def cluster(ray_environment: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head without slots, and a node with many."""
    import ray
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        made.add_node(num_cpus=SLOTS, object_store_memory=80_000_000)
        made.wait_for_nodes()
        ray.init(address=made.address, log_to_driver=False)
        yield ray
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.situation(
    "environment",
    "Ray loses the slots of requests that are taken back while it places them",
    "they are taken back a moment later: every slot stays usable, and idle nodes can go",
)
def test_slots_of_requests_that_are_taken_back_come_back(cluster: Any) -> None:
    from ray.air.execution import ResourceRequest

    from study.tune.groups import SettledGroups

    groups, request, chance = SettledGroups(), ResourceRequest([{"CPU": 1}]), random.Random(0)
    for _ in range(400):  # Tune's own manager loses some of them
        groups.request_resources(request)
        until_s = time.perf_counter() + chance.uniform(0.0, 0.003)
        while time.perf_counter() < until_s:
            pass
        groups.cancel_resource_request(request)
        groups.get_resource_futures()
    groups.clear()
    deadline = time.monotonic() + 60
    while cluster.available_resources().get("CPU") != SLOTS and time.monotonic() < deadline:
        time.sleep(0.2)
    assert cluster.available_resources().get("CPU") == SLOTS


def test_request_that_was_placed_can_be_taken_back(cluster: Any) -> None:
    from ray.air.execution import ResourceRequest

    from study.tune.groups import SettledGroups

    groups, request = SettledGroups(), ResourceRequest([{"CPU": 1}])
    groups.request_resources(request)
    cluster.wait(groups.get_resource_futures(), timeout=30)
    assert groups.has_resources_ready(request)
    groups.cancel_resource_request(request)
    assert not groups.has_resources_ready(request)
    assert groups.get_resource_futures() == []
