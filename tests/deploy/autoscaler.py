"""Ray's autoscaler of `ray up` (v2) without a cluster; its reconciler and scheduler are Ray's own."""

import time
from collections import Counter
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig, IConfigReader
from ray.autoscaler.v2.instance_manager.instance_manager import InstanceManager
from ray.autoscaler.v2.instance_manager.instance_storage import InstanceStorage
from ray.autoscaler.v2.instance_manager.node_provider import NodeProviderAdapter
from ray.autoscaler.v2.instance_manager.reconciler import Reconciler
from ray.autoscaler.v2.instance_manager.storage import InMemoryStorage
from ray.autoscaler.v2.instance_manager.subscribers.cloud_instance_updater import CloudInstanceUpdater
from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler
from ray.autoscaler.v2.utils import ResourceRequestUtil
from ray.core.generated.autoscaler_pb2 import ClusterResourceState, NodeState, NodeStatus

_LAUNCH_TIMEOUT_S = 20.0


class _Reader(IConfigReader):
    def __init__(self, config: AutoscalingConfig) -> None:
        self._config = config

    def get_cached_autoscaling_config(self) -> AutoscalingConfig:
        return self._config

    def refresh_cached_autoscaling_config(self) -> None:
        pass


class Autoscaler:
    """One with a head that runs; launches go to `provider`, and no machine ever joins."""

    def __init__(self, config: dict[str, Any], provider: NodeProvider, head: str) -> None:
        self._config = AutoscalingConfig(config, skip_content_hash=True)
        self._adapter = NodeProviderAdapter(provider, _Reader(self._config))
        self._monitor = CloudResourceMonitor()
        subscribers = [CloudInstanceUpdater(self._adapter), self._monitor]
        self._manager = InstanceManager(InstanceStorage("tests", InMemoryStorage()), subscribers)
        self._scheduler = ResourceDemandScheduler()
        self._head = head
        self._rounds = 0

    def step(self, *demands: dict[str, float]) -> None:
        """Look at demand and machines once, and wait until what is launched has come or was refused."""
        self._rounds += 1
        head = NodeState(
            node_id=b"head",
            instance_id=self._head,
            ray_node_type_name=self._config.get_head_node_type(),
            status=NodeStatus.RUNNING,
            total_resources={"node:__internal_head__": 1.0},
            node_state_version=1,
        )
        requests = [ResourceRequestUtil.make(demand) for demand in demands]
        state = ClusterResourceState(
            cluster_resource_state_version=self._rounds,
            node_states=[head],
            pending_resource_requests=ResourceRequestUtil.group_by_count(requests),
        )
        Reconciler.reconcile(
            instance_manager=self._manager,
            scheduler=self._scheduler,
            cloud_provider=self._adapter,
            cloud_resource_monitor=self._monitor,
            ray_cluster_resource_state=state,
            non_terminated_cloud_instances=self._adapter.get_non_terminated(),
            autoscaling_config=self._config,
            cloud_provider_errors=self._adapter.poll_errors(),
        )
        self._wait_for_launches()

    def machines(self) -> Counter[str]:
        """Count the machines of the cluster by node type, as the provider lists them."""
        return Counter(machine.node_type for machine in self._adapter.get_non_terminated().values())

    def _wait_for_launches(self) -> None:
        # Launches run in two pools, one after the other; both are idle when a task of ours has gone through.
        deadline = time.monotonic() + _LAUNCH_TIMEOUT_S
        for pool in (self._adapter._main_executor, self._adapter._node_launcher_executors):
            for waited in [pool.submit(time.sleep, 0.01) for _ in range(pool._max_workers)]:
                waited.result(timeout=deadline - time.monotonic())
