"""deploy/gcp.yaml and its node provider. Ray's provider meets a stand-in for Google's client."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GOOGLE = (
    "google.oauth2.credentials",
    "google_auth_httplib2",
    "googleapiclient.discovery",
    "googleapiclient.errors",
    "httplib2",
)
TAGS = {"ray-node-name": "worker", "ray-node-type": "worker", "ray-user-node-type": "gpu"}


class Compute:
    """Compute Engine as Ray's provider sees it: launches are kept, and spot may be refused."""

    def __init__(self, spot: int, refusal: str) -> None:
        self.spot_left = spot
        self.refusal = refusal
        self.launched: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def create_instances(self, config: dict[str, Any], labels: dict[str, str], count: int) -> list[Any]:
        assert count == 1
        market = config.get("scheduling", {}).get("provisioningModel", "STANDARD")
        self.asked.append(market)
        if market == "SPOT":
            if not self.spot_left:
                raise Exception({"errors": [{"code": self.refusal, "message": "none left"}]})
            self.spot_left -= 1
        self.launched.append(config)
        return [({"status": "DONE"}, f"{labels['ray-node-name']}-{len(self.launched)}")]


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "deploy" / "gcp.yaml").read_text())


@pytest.fixture
def provider_class() -> Iterator[Any]:
    """The class of the file, on top of Ray's, without Google's packages below it."""
    stubs: dict[str, ModuleType] = {}
    for name in GOOGLE:
        parts = name.split(".")
        for end in range(1, len(parts) + 1):
            stubs.setdefault(".".join(parts[:end]), mock.MagicMock(name=".".join(parts[:end])))
    with mock.patch.dict(sys.modules, stubs):
        yield importlib.import_module("study.tune.spot_gcp").SpotFirst


def launch(provider_class: Any, config: dict[str, Any], compute: Compute, count: int) -> dict[str, Any]:
    provider = provider_class(config["provider"], "ftcl")
    provider.resources = dict.fromkeys(provider.resources, compute)
    return provider.create_node(config["available_node_types"]["gpu"]["node_config"], TAGS, count)


def test_machines_come_on_spot(provider_class: Any, config: dict[str, Any]):
    compute = Compute(spot=9, refusal="")
    assert len(launch(provider_class, config, compute, 3)) == 3
    assert compute.asked == ["SPOT"] * 3
    assert compute.launched[0]["disks"][0]["initializeParams"]["diskType"].startswith("zones/us-central1-a/")


@pytest.mark.parametrize("refusal", ["ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS", "QUOTA_EXCEEDED"])
def test_what_spot_does_not_fill_is_launched_on_demand(
    provider_class: Any, config: dict[str, Any], refusal: str
):
    compute = Compute(spot=1, refusal=refusal)
    assert len(launch(provider_class, config, compute, 3)) == 3
    assert compute.asked == ["SPOT", "SPOT", "STANDARD", "SPOT", "STANDARD"]
    assert compute.launched[-1]["scheduling"] == {"onHostMaintenance": "TERMINATE"}  # as GPUs demand


def test_other_refusals_are_not_answered_with_money(provider_class: Any, config: dict[str, Any]):
    compute = Compute(spot=0, refusal="RESOURCE_NOT_FOUND")
    with pytest.raises(Exception, match="RESOURCE_NOT_FOUND"):
        launch(provider_class, config, compute, 1)
    assert compute.asked == ["SPOT"]


def test_machines_are_what_studies_need(config: dict[str, Any]):
    head, gpu = config["available_node_types"]["head"], config["available_node_types"]["gpu"]
    assert (head["resources"], gpu["resources"]) == ({"CPU": 0}, {"CPU": 8, "GPU": 1})
    assert "scheduling" not in head["node_config"]
    assert gpu["node_config"]["scheduling"]["instanceTerminationAction"] == "DELETE"
    (account,) = gpu["node_config"]["serviceAccounts"]
    assert account["email"] == config["metadata"]["account"]
    assert (gpu["min_workers"], gpu["max_workers"], config["max_workers"]) == (0, 8, 8)
