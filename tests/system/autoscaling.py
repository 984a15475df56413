"""A cluster that starts and stops its own nodes: Ray's autoscaler over processes of this machine."""

import json
from pathlib import Path
from typing import Any, Final

from benchmarks.chaos.cluster import Cluster, _free_port

# What Ray's provider of pretended machines calls the head.
_HEAD_ID: Final = "f" * 51 + "00000"
_HEAD_KIND: Final = "ray.head.default"
_PROVIDER: Final = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
_STEPS: Final = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


class AutoscalingCluster(Cluster):
    """A head that runs nothing, and nodes of the given kinds while something asks for them.

    What they have, GPUs too, are numbers in Ray's books only. A node that is idle for `idle_s` ends.
    """

    def __init__(
        self, folder: Path, kinds: dict[str, dict[str, Any]], *, max_workers: int, idle_s: float
    ) -> None:
        super().__init__(folder)
        self._config = {
            "cluster_name": "test",
            "max_workers": max_workers,
            "idle_timeout_minutes": idle_s / 60,
            "upscaling_speed": 1.0,
            "provider": {
                "type": "external",
                "module": _PROVIDER,
                "gcs_address": self.address,
                "head_node_id": _HEAD_ID,
                "launch_multiple": True,
            },
            "auth": {},
            "head_node_type": _HEAD_KIND,
            "available_node_types": {
                _HEAD_KIND: {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
                **{name: {"node_config": {}, "min_workers": 0, **kind} for name, kind in kinds.items()},
            },
            "file_mounts": {},
            "cluster_synced_files": [],
            "file_mounts_sync_continuously": False,
            "rsync_exclude": [],
            "rsync_filter": [],
            **{step: [] for step in _STEPS},
        }

    def environment(self, part: str) -> dict[str, str]:
        """Return the environment of a process of the cluster."""
        scaling = {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_enable_autoscaler_v2": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        head = {"RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID, "RAY_CLOUD_INSTANCE_ID": _HEAD_ID}
        return super().environment(part) | scaling | (head if part == "head" else {})

    def start(self) -> None:
        """Start the head, whose autoscaler starts the nodes."""
        self.folder.mkdir(parents=True, exist_ok=True)
        config = self.folder / "config.yaml"
        config.write_text(json.dumps(self._config))
        head = ["--head", "--port", self.address.rpartition(":")[2], "--num-cpus", "0"]
        head += ["--include-dashboard", "false", "--ray-client-server-port", str(_free_port())]
        head += [f"--autoscaling-config={config}"]
        self._wait("head", self._ray_start("head", "127.0.0.1", *head))
