"""What nodes an autoscaling cluster may still start, from the configuration of its autoscaler.

Ray tells a driver only of the nodes that live. The file that `ray up` leaves on the head names the others; on
Kubernetes the description of the cluster does.
"""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import ray
import yaml
from ray.autoscaler.v2.sdk import get_cluster_resource_state
from ray.core.generated import autoscaler_pb2
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from study.capacity import Cluster, Kind, Node
from study.tune.reach import ClusterError

_PROCESSES: Final = Path("/proc")
_TIMEOUT_S: Final = 8.0
_HEAD: Final = "node:__internal_head__"
_OPTION: Final = "--autoscaling-config="
_KUBERNETES: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def survey() -> Cluster:
    """Return the nodes of the connected cluster, and those that may come."""
    gcs = ray._private.worker.global_worker.gcs_client  # type: ignore[attr-defined]
    gone = (autoscaler_pb2.DEAD, autoscaler_pb2.DRAINING)  # type: ignore[attr-defined]
    states = [state for state in get_cluster_resource_state(gcs).node_states if state.status not in gone]
    live = tuple(
        Node(state.total_resources.get("CPU", 0.0), state.total_resources.get("GPU", 0.0)) for state in states
    )
    config = _configuration()
    if config is None:
        return Cluster(live)
    workers = Counter(state.ray_node_type_name for state in states if _HEAD not in state.total_resources)
    kinds = kinds_that_may_come(config, workers)
    return Cluster(live, kinds, max(0, config.get("max_workers", 2) - workers.total()))


def kinds_that_may_come(config: Mapping[str, Any], workers: Mapping[str, int]) -> tuple[Kind, ...]:
    """Return the kinds in an autoscaler's configuration; `workers` says how many of each there are."""
    if config.get("provider", {}).get("type") == "local":
        return ()  # one's own machines, which come by themselves if they come at all
    kinds = []
    for name, described in config["available_node_types"].items():
        at_most = 0 if name == config.get("head_node_type") else config.get("max_workers", 2)
        more = described.get("max_workers", at_most) - workers.get(name, 0)
        if more > 0:
            resources = described.get("resources") or {}
            known = "CPU" in resources or "GPU" in resources
            node = Node(float(resources.get("CPU", 0)), float(resources.get("GPU", 0))) if known else None
            kinds.append(Kind(name, node, more, gpu_types(resources)))
    return tuple(kinds)


def gpu_types(resources: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the types of GPUs that a node has, as Ray names them among its resources."""
    return tuple(sorted(name for name in resources if name.startswith("accelerator_type:")))


def _configuration() -> dict[str, Any] | None:
    """Return the autoscaler's configuration; None without an autoscaler."""
    address = ray.get_runtime_context().gcs_address
    heads = [node["NodeID"] for node in ray.nodes() if node["Alive"] and _HEAD in node["Resources"]]
    if not heads or ray.get_runtime_context().get_node_id() == heads[0]:
        return read_configuration(address)
    there = ray.remote(read_configuration).options(
        num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(heads[0], soft=False), max_retries=0
    )
    try:
        found: dict[str, Any] | None = ray.get(there.remote(address), timeout=_TIMEOUT_S)
    except RayError as error:
        raise ClusterError(
            f"the cluster's head does not say which nodes may come ({type(error).__name__}); run the command "
            "on the head"
        ) from error
    return found


def read_configuration(address: str) -> dict[str, Any] | None:
    """Return the configuration of the autoscaler of the cluster at `address`, on its head; None without."""
    port = address.rpartition(":")[2]
    for entry in _PROCESSES.glob("[0-9]*/cmdline"):
        try:
            command = entry.read_text(errors="replace").split("\0")
        except OSError:
            continue  # it has ended
        options = [word for word in command if word.startswith(_OPTION)]
        if options and any(
            word.startswith("--gcs-address=") and word.endswith(f":{port}") for word in command
        ):
            path = Path(options[0].removeprefix(_OPTION)).expanduser()
            config: dict[str, Any] = yaml.safe_load(path.read_text())
            return config
    if _KUBERNETES.exists() and "RAY_CLUSTER_NAME" in os.environ:
        return _kubernetes_configuration(os.environ["RAY_CLUSTER_NAME"], _KUBERNETES.read_text().strip())
    return None


def _kubernetes_configuration(name: str, namespace: str) -> dict[str, Any] | None:
    """Return what KubeRay's autoscaler reads; None where this pod may not, as there is no autoscaler then."""
    import requests
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
    from ray.autoscaler._private.kuberay.node_provider import KubernetesHttpApiClient

    try:
        described = KubernetesHttpApiClient(namespace).get(f"rayclusters/{name}")
    except requests.RequestException:
        return None
    if not described["spec"].get("enableInTreeAutoscaling"):
        return None
    config: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(described)
    return config
