"""The manifests for Kubernetes: KubeRay's fields, Ray's own reading of them, pins and the rights of pods."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.autoscaler.v2.utils import ResourceRequestUtil

import run_study
from tests.deploy.kuberay import SCHEMAS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kuberay"


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / name).read_text())


def templates() -> Iterator[tuple[str, dict[str, Any]]]:
    """All pods of all manifests, each with a name."""
    for file in ("raycluster.yaml", "rayjob.yaml"):
        spec = manifest(file)["spec"]
        if "submitterPodTemplate" in spec:
            yield f"{file} submitter", spec["submitterPodTemplate"]
        cluster = spec.get("rayClusterSpec", spec)
        yield f"{file} head", cluster["headGroupSpec"]["template"]
        for group in cluster["workerGroupSpecs"]:
            yield f"{file} {group['groupName']}", group["template"]


POD = pytest.mark.parametrize("template", [pytest.param(t, id=name) for name, t in templates()])


def pin(package: str) -> str:
    (version,) = re.findall(rf"(?m)^{package}==(.+)$", (ROOT / "constraints.txt").read_text())
    return version


@pytest.mark.parametrize("name", SCHEMAS)
def test_manifest_has_kuberays_fields(name: str):
    jsonschema.validate(manifest(name), SCHEMAS[name])


def test_misspelt_field_is_refused():
    wrong = manifest("raycluster.yaml")
    wrong["spec"]["workerGroupSpecs"][0]["maxReplica"] = 8
    with pytest.raises(jsonschema.ValidationError, match="maxReplica"):
        jsonschema.validate(wrong, SCHEMAS["raycluster.yaml"])


def test_job_has_the_cluster_of_the_cluster_file():
    assert manifest("rayjob.yaml")["spec"]["rayClusterSpec"] == manifest("raycluster.yaml")["spec"]


def test_versions_are_the_pinned_ones():
    python = re.search(r"(?m)^FROM python:([\d.]+)-slim$", (FOLDER / "Dockerfile").read_text())
    assert python is not None
    assert manifest("raycluster.yaml")["spec"]["rayVersion"] == pin("ray")
    images = {template["spec"]["containers"][0]["image"] for _, template in templates()}
    assert images == {f"CHANGE-ME/ftcl-study:ray-{pin('ray')}-py{python[1]}"}


def test_image_has_all_that_is_shipped_to_machines():
    lines = (FOLDER / "Dockerfile").read_text().splitlines()
    copied = {name for line in lines if line.startswith("COPY ") for name in shlex.split(line)[1:-1]}
    shipped = set(yaml.safe_load((ROOT / "cluster.yaml").read_text())["file_mounts"].values())
    assert copied == shipped - {"~/.ray/auth_token", "Makefile", "deploy"}
    assert all((ROOT / name).exists() for name in copied)


def test_image_takes_nothing_that_was_built_outside():
    built = {f"**/{Path(line).name}" for line in (ROOT / ".gitignore").read_text().splitlines()}
    assert built <= set((ROOT / ".dockerignore").read_text().splitlines())


def test_token_is_asked_for_and_only_the_cluster_is_let_in():
    for _, template in templates():
        assert template["metadata"]["labels"]["app"] == "ftcl-study"
    spec = manifest("raycluster.yaml")["spec"]
    assert spec["authOptions"] == {"mode": "token"}
    assert spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    parts = list(yaml.safe_load_all((FOLDER / "setup.yaml").read_text()))
    (policy,) = [part["spec"] for part in parts if part["kind"] == "NetworkPolicy"]
    assert policy["podSelector"] == {"matchLabels": {"app": "ftcl-study"}}
    everything, dashboard = policy["ingress"]
    assert everything == {"from": [{"podSelector": {"matchLabels": {"app": "ftcl-study"}}}]}
    assert [port["port"] for port in dashboard["ports"]] == [8265]


@POD
def test_pods_are_nobody_special(template: dict[str, Any]):
    pod = template["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    options = manifest("raycluster.yaml")["spec"]["autoscalerOptions"]
    assert options["securityContext"] == pod["containers"][0]["securityContext"]


def test_head_has_the_settings_of_other_clusters():
    script = (ROOT / "deploy" / "node.sh").read_text()
    exported = dict(re.findall(r"\b(RAY_\w+|TUNE_\w+)=(\d+)\b", script))
    exported.pop("RAY_gcs_rpc_server_reconnect_timeout_s", None)  # a worker's; KubeRay ends pods itself
    head = manifest("raycluster.yaml")["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert {variable["name"]: variable["value"] for variable in head["env"]} == exported


def test_ray_reads_the_cluster_as_meant():
    config = ray_config()
    types = config["available_node_types"]
    assert types["headgroup"]["resources"]["CPU"] == 0
    assert {"CPU": 4, "GPU": 1}.items() <= types["gpu"]["resources"].items()
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"]) == (0, 8)
    assert config["idle_timeout_minutes"] == 5


@pytest.mark.parametrize(("trials", "pods"), [(0, {}), (8, {"gpu": 2}), (400, {"gpu": 8})])
def test_autoscaler_asks_for_pods_as_trials_ask_for_gpus(trials: int, pods: dict[str, int]):
    config = AutoscalingConfig(ray_config(), skip_content_hash=True)
    demand = [ResourceRequestUtil.make({"CPU": 1.0, "GPU": 0.25})] * trials
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=config.get_node_type_configs(),
        max_num_nodes=config.get_max_num_nodes(),
        resource_requests=ResourceRequestUtil.group_by_count(demand),
    )
    reply = ResourceDemandScheduler().schedule(request)
    assert {launch.instance_type: launch.count for launch in reply.to_launch} == pods


def test_entrypoint_is_a_command_of_ours():
    program, module, name, *arguments = shlex.split(manifest("rayjob.yaml")["spec"]["entrypoint"])
    assert (program, module, name) == ("python", "-m", "run_study")
    options = run_study._parser().parse_args(run_study._with_subcommand(arguments))
    assert (options.space, options.address) == ("fsd_lcs", "auto")
    head = manifest("rayjob.yaml")["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    mounts = {mount["name"]: mount["mountPath"] for mount in head["containers"][0]["volumeMounts"]}
    assert options.ledger.startswith(f"sqlite:///{mounts['ledger']}/")


def ray_config() -> dict[str, Any]:
    cluster = manifest("raycluster.yaml")
    cluster["metadata"]["namespace"] = "default"
    return _derive_autoscaling_config_from_ray_cr(cluster)
