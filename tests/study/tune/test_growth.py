"""What an autoscaler's configuration says of the nodes that may come."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from study.capacity import Kind, Node

ROOT = Path(__file__).parents[3]


def kinds_of(config: dict[str, Any], workers: dict[str, int] | None = None) -> tuple[Kind, ...]:
    from study.tune.growth import kinds_that_may_come

    return kinds_that_may_come(config, workers or {})


CONFIG: dict[str, Any] = {
    "max_workers": 10,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}},
        "gpu": {"resources": {"CPU": 4, "GPU": 1, "accelerator_type:L4": 1}, "max_workers": 8},
        "cpu": {"resources": {"CPU": 16}},
    },
}


def test_kinds_are_those_that_workers_may_have() -> None:
    gpu, cpu = Kind("gpu", Node(4, 1), 8, ("accelerator_type:L4",)), Kind("cpu", Node(16, 0), 10)
    assert kinds_of(CONFIG) == (gpu, cpu)
    assert kinds_of(CONFIG, {"gpu": 8, "cpu": 3}) == (Kind("cpu", Node(16, 0), 7),)


def test_size_may_be_unknown() -> None:
    config = {**CONFIG, "available_node_types": {"worker": {"resources": {}, "max_workers": 2}}}
    assert kinds_of(config) == (Kind("worker", None, 2),)
    assert kinds_of(config, {"worker": 2}) == ()


def test_machines_of_ones_own_are_not_started_on_demand() -> None:
    types = {"local.cluster.node": {"resources": {}, "max_workers": 2}}
    config = {**CONFIG, "provider": {"type": "local"}, "available_node_types": types}
    assert kinds_of(config) == ()


def test_kubernetes_cluster_as_shipped() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    described = yaml.safe_load((ROOT / "deploy" / "kuberay" / "raycluster.yaml").read_text())
    described["metadata"]["namespace"] = "default"
    config = _derive_autoscaling_config_from_ray_cr(described)
    (kind,) = kinds_of(config)
    assert (kind.name, kind.node, kind.more) == ("gpu", Node(4, 1), 8)


@pytest.mark.parametrize("command", [None, "other port", "no configuration"])
def test_configuration_is_that_of_the_running_autoscaler(
    command: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from study.tune import growth

    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    port = 7000 if command == "other port" else 6379
    words = ["python", "monitor.py", f"--gcs-address=10.0.0.1:{port}"]
    if command != "no configuration":
        words.append(f"--autoscaling-config={tmp_path}/config.yaml")
    (tmp_path / "17").mkdir()
    (tmp_path / "17" / "cmdline").write_text("\0".join([*words, ""]))
    monkeypatch.setattr(growth, "_PROCESSES", tmp_path)
    assert growth.read_configuration("127.0.0.1:6379") == (CONFIG if command is None else None)
