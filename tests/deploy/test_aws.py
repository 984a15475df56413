"""cluster.yaml against a pretended AWS: Ray's launcher, node provider and autoscaler are the real ones."""

import copy
import json
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from ray.autoscaler._private.commands import _bootstrap_config
from ray.autoscaler._private.providers import _get_node_provider
from ray.autoscaler.node_launch_exception import NodeLaunchException

from deploy import aws_setup
from tests.deploy.autoscaler import Autoscaler
from tests.deploy.aws import REGION, at_launches, edited_file, watch_launches

TRIAL = {"CPU": 1.0, "GPU": 0.25}
WORKER_TAGS = {"ray-node-type": "worker", "ray-user-node-type": "gpu", "ray-launch-config": "any"}


pytestmark = pytest.mark.xdist_group("pretended AWS")


@pytest.fixture(scope="module")
def completed(account: Path) -> dict[str, Any]:
    """The file of a user who has edited it and run aws_setup.py, as `ray up` completes it."""
    path = edited_file(account)
    set_up(path)
    return _bootstrap_config(yaml.safe_load(path.read_text()), no_config_cache=True)


@pytest.fixture
def config(completed: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    """The completed file, with a cluster name of the test's own: no test sees the machines of another."""
    return copy.deepcopy(completed) | {"cluster_name": request.node.name}


@pytest.fixture
def provider(config: dict[str, Any]) -> Any:
    return make_provider(config["provider"], config["cluster_name"])


def make_provider(provider: dict[str, Any], cluster_name: str) -> Any:
    """Make Ray's provider, to which nothing is refused yet."""
    made = _get_node_provider(provider, cluster_name, use_cache=False)
    at_launches(made.ec2_fail_fast.meta.client, None)
    return made


def set_up(path: Path) -> None:
    aws_setup.set_up(**aws_setup.read_wanted(yaml.safe_load(path.read_text()), str(path)))


def launch_head(config: dict[str, Any], provider: Any) -> str:
    node_config = config["available_node_types"]["head"]["node_config"]
    tags = WORKER_TAGS | {"ray-node-type": "head", "ray-user-node-type": "head"}
    return next(iter(provider.create_node(node_config, tags, 1)))


def gpu(config: dict[str, Any]) -> dict[str, Any]:
    return config["available_node_types"]["gpu"]["node_config"]


def instance(machine: str) -> dict[str, Any]:
    answer = boto3.client("ec2", REGION).describe_instances(InstanceIds=[machine])
    return answer["Reservations"][0]["Instances"][0]


def test_head_runs_no_trials_and_gpu_machines_are_told_by_their_type(config: dict[str, Any]):
    types = config["available_node_types"]
    assert types["head"]["resources"]["CPU"] == 0
    assert "GPU" not in types["head"]["resources"]
    assert {"CPU": 4, "GPU": 1, "accelerator_type:L4": 1}.items() <= types["gpu"]["resources"].items()
    assert (types["gpu"]["min_workers"], types["gpu"]["max_workers"], config["max_workers"]) == (0, 8, 8)


def test_gpu_machine_is_asked_for_on_spot(config: dict[str, Any], provider: Any):
    requests: list[dict[str, str]] = []
    client = provider.ec2_fail_fast.meta.client
    at_launches(client, lambda params, **_: requests.append(params["body"]))
    machine = next(iter(provider.create_node(gpu(config), WORKER_TAGS, 1)))
    made = instance(machine)
    assert made["InstanceLifecycle"] == "spot"
    assert made["InstanceType"] == "g6.xlarge"
    assert made["IamInstanceProfile"]["Arn"].endswith(":instance-profile/ftcl-study-worker")
    assert made["KeyName"] == f"ray-autoscaler_{REGION}"
    (request,) = requests
    assert request["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert request["ImageId"].startswith("resolve:ssm:/aws/service/deeplearning/")
    assert request["MetadataOptions.HttpTokens"] == "required"
    disk = {name.rpartition(".")[2]: value for name, value in request.items() if "BlockDevice" in name}
    assert disk == {
        "DeviceName": "/dev/sda1",
        "VolumeSize": 150,
        "VolumeType": "gp3",
        "Encrypted": "true",
        "DeleteOnTermination": "true",
    }
    tags = {tag["Key"]: tag["Value"] for tag in made["Tags"]}
    assert (tags["ray-cluster-name"], tags["ray-user-node-type"]) == (config["cluster_name"], "gpu")


def test_head_is_on_demand_with_a_role_of_its_own(config: dict[str, Any], provider: Any):
    made = instance(launch_head(config, provider))
    assert "InstanceLifecycle" not in made
    assert made["InstanceType"] == "m7i.large"
    assert made["IamInstanceProfile"]["Arn"].endswith(":instance-profile/ftcl-study-head")
    names = [
        p["InstanceProfileName"] for p in boto3.client("iam").list_instance_profiles()["InstanceProfiles"]
    ]
    assert sorted(names) == ["ftcl-study-head", "ftcl-study-worker"]  # Ray has made none that may do anything


def test_network_lets_in_ssh_from_the_named_addresses_only(config: dict[str, Any], provider: Any):
    made = [instance(launch_head(config, provider))]
    made.append(instance(next(iter(provider.create_node(gpu(config), WORKER_TAGS, 1)))))
    (group,) = {group["GroupId"] for machine in made for group in machine["SecurityGroups"]}
    rules = boto3.client("ec2", REGION).describe_security_groups(GroupIds=[group])
    rules = rules["SecurityGroups"][0]["IpPermissions"]
    everything = [rule for rule in rules if rule["IpProtocol"] == "-1"]
    ssh = [rule for rule in rules if rule["IpProtocol"] != "-1"]
    assert [pair["GroupId"] for rule in everything for pair in rule["UserIdGroupPairs"]] == [group]
    assert not any(rule.get("IpRanges") or rule.get("Ipv6Ranges") for rule in everything)
    assert [(rule["FromPort"], rule["ToPort"]) for rule in ssh] == [(22, 22)]
    assert [where["CidrIp"] for rule in ssh for where in rule["IpRanges"]] == ["198.51.100.0/24"]


@pytest.mark.parametrize(
    "code", ["InsufficientInstanceCapacity", "MaxSpotInstanceCountExceeded", "Unsupported"]
)
def test_refused_spot_is_launched_on_demand(config: dict[str, Any], provider: Any, code: str):
    asked = watch_launches(provider.ec2_fail_fast.meta.client, spot=code)
    made = provider.create_node(gpu(config), WORKER_TAGS, 2)
    assert [instance(machine).get("InstanceLifecycle") for machine in made] == [None, None]
    assert asked[-1] == ("on demand", 2)
    zones = len(gpu(config)["SubnetIds"])
    assert zones > 1
    assert asked[:-1] == [("spot", 2)] * max(5, zones)  # every zone first
    tags = {tag["Key"]: tag["Value"] for tag in instance(next(iter(made)))["Tags"]}
    assert tags["ray-user-node-type"] == "gpu"


def test_what_spot_does_not_fill_is_launched_on_demand(config: dict[str, Any], provider: Any):
    asked = watch_launches(provider.ec2_fail_fast.meta.client, spot=2)
    made = provider.create_node(gpu(config), WORKER_TAGS, 5)
    assert asked == [("spot", 5), ("on demand", 3)]
    assert (
        sorted(str(instance(machine).get("InstanceLifecycle")) for machine in made)
        == ["None"] * 3 + ["spot"] * 2
    )


def test_next_launch_asks_for_spot_again(config: dict[str, Any], provider: Any):
    watch_launches(provider.ec2_fail_fast.meta.client, spot="InsufficientInstanceCapacity")
    provider.create_node(gpu(config), WORKER_TAGS, 1)
    made = make_provider(config["provider"], "another").create_node(gpu(config), WORKER_TAGS, 1)
    assert [instance(machine)["InstanceLifecycle"] for machine in made] == ["spot"]


def test_machines_are_ended_not_stopped(config: dict[str, Any], provider: Any):
    watch_launches(provider.ec2_fail_fast.meta.client, spot=1)
    made = provider.create_node(gpu(config), WORKER_TAGS, 2)
    provider.terminate_nodes(list(made))
    assert [instance(machine)["State"]["Name"] for machine in made] == ["terminated"] * 2


def test_other_refusals_are_not_answered_with_money(config: dict[str, Any], provider: Any):
    asked = watch_launches(provider.ec2_fail_fast.meta.client, spot="UnauthorizedOperation")
    with pytest.raises(NodeLaunchException, match="UnauthorizedOperation"):
        provider.create_node(gpu(config), WORKER_TAGS, 1)
    assert {market for market, _ in asked} == {"spot"}


def test_no_machine_in_either_market_is_an_error(config: dict[str, Any], provider: Any):
    client = provider.ec2_fail_fast.meta.client
    watch_launches(client, spot="InsufficientInstanceCapacity", on_demand="VcpuLimitExceeded")
    with pytest.raises(NodeLaunchException, match="VcpuLimitExceeded"):
        provider.create_node(gpu(config), WORKER_TAGS, 1)


def test_autoscaler_asks_for_nothing_without_demand(config: dict[str, Any], provider: Any):
    autoscaler = Autoscaler(config, provider, launch_head(config, provider))
    asked = watch_launches(provider.ec2_fail_fast.meta.client)
    autoscaler.step()
    autoscaler.step({"CPU": 1.0, "GPU": 2.0})  # no machine type has two
    assert asked == []
    assert autoscaler.machines() == {"head": 1}


def test_autoscaler_packs_trials_and_stops_at_the_most_machines(config: dict[str, Any], provider: Any):
    autoscaler = Autoscaler(config, provider, launch_head(config, provider))
    asked = watch_launches(provider.ec2_fail_fast.meta.client)
    autoscaler.step(*[TRIAL] * 8)
    assert autoscaler.machines() == {"head": 1, "gpu": 2}
    for _ in range(6):
        autoscaler.step(*[TRIAL] * 400)
    assert autoscaler.machines() == {"head": 1, "gpu": 8}
    assert {market for market, _ in asked} == {"spot"}


@pytest.mark.situation("environment", "AWS has no spot machine", "the same machine is taken on demand")
def test_autoscaler_gets_machines_when_there_is_no_spot(config: dict[str, Any], provider: Any):
    autoscaler = Autoscaler(config, provider, launch_head(config, provider))
    asked = watch_launches(provider.ec2_fail_fast.meta.client, spot="InsufficientInstanceCapacity")
    for _ in range(6):
        autoscaler.step(*[TRIAL] * 400)
    assert autoscaler.machines() == {"head": 1, "gpu": 8}
    assert sum(count for market, count in asked if market == "on demand") == 8


def test_ray_alone_would_ask_for_spot_for_ever(config: dict[str, Any]):
    """Why SpotFirst is there. If this fails, Ray has learnt it: a second node type on demand will do."""
    types = config["available_node_types"]
    on_demand = {key: value for key, value in gpu(config).items() if key != "InstanceMarketOptions"}
    types["gpu"]["priority"] = 1
    types["gpu_on_demand"] = types["gpu"] | {"priority": 0, "node_config": on_demand}
    rays_own = make_provider({"type": "aws", "region": REGION}, config["cluster_name"])
    autoscaler = Autoscaler(config, rays_own, launch_head(config, rays_own))
    asked = watch_launches(rays_own.ec2_fail_fast.meta.client, spot="InsufficientInstanceCapacity")
    for _ in range(4):
        autoscaler.step(TRIAL)
    assert {market for market, _ in asked} == {"spot"}
    assert autoscaler.machines() == {"head": 1}


def test_setup_brings_an_edited_file_to_the_account(config: dict[str, Any], account: Path):
    set_up(edited_file(account, ssh_from="203.0.113.7/32"))
    groups = boto3.client("ec2", REGION).describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["ftcl-study"]}]
    )
    (group,) = groups["SecurityGroups"]
    ranges = [where["CidrIp"] for rule in group["IpPermissions"] for where in rule["IpRanges"]]
    set_up(edited_file(account))
    assert ranges == ["203.0.113.7/32"]


def test_setup_completes_what_was_cut_short(config: dict[str, Any], account: Path):
    iam = boto3.client("iam")
    names = {"InstanceProfileName": "ftcl-study-worker", "RoleName": "ftcl-study-worker"}
    iam.remove_role_from_instance_profile(**names)
    set_up(edited_file(account))
    profile = iam.get_instance_profile(InstanceProfileName="ftcl-study-worker")["InstanceProfile"]
    assert [role["RoleName"] for role in profile["Roles"]] == ["ftcl-study-worker"]


def test_machines_may_do_no_more_than_they_need(config: dict[str, Any]):
    iam = boto3.client("iam")
    allowed = {}
    for role in ("ftcl-study-head", "ftcl-study-worker"):
        policy = iam.get_role_policy(RoleName=role, PolicyName=role)["PolicyDocument"]
        assert not iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        allowed[role] = policy["Statement"]
    (bucket,) = allowed["ftcl-study-worker"]
    assert bucket["Resource"] == ["arn:aws:s3:::studies", "arn:aws:s3:::studies/*"]
    assert all(action.startswith("s3:") for action in bucket["Action"])
    passing = [s for s in allowed["ftcl-study-head"] if "iam:PassRole" in s["Action"]]
    assert [s["Resource"] for s in passing] == [[iam.get_role(RoleName="ftcl-study-worker")["Role"]["Arn"]]]
    assert "*" not in json.dumps([s["Action"] for s in allowed["ftcl-study-head"]]).replace(
        "ec2:Describe*", ""
    )


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        ({"bucket": "CHANGE-ME"}, "cluster.yaml: set metadata: bucket, which is still CHANGE-ME"),
        ({"ssh_from": "home"}, "metadata: ssh_from: 'home' does not appear to be an IPv4 or IPv6 network"),
        ({"bucket": "another"}, "you cannot use the bucket another"),
    ],
)
def test_setup_says_what_is_wrong(
    account: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any, edit: dict[str, str], complaint: str
):
    monkeypatch.setattr("sys.argv", ["aws_setup.py", str(edited_file(account, **edit))])
    assert aws_setup.main() == 2
    assert complaint in capsys.readouterr().err
