"""A pretended AWS for tests of cluster.yaml: moto's EC2, IAM and S3 in this process."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from ray.autoscaler._private.aws import node_provider, utils

ROOT = Path(__file__).parents[2]
REGION = "us-west-2"
EDITED = {"bucket": "studies", "ssh_from": "198.51.100.0/24"}


@contextmanager
def pretended(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    """Answer all calls to AWS from this process, with an empty account; ~ is `home`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(home))
    # Ray asks for all 1 400 instance types, which the pretended EC2 takes 8 s to list.
    monkeypatch.setattr(node_provider, "list_ec2_instances", list_some_instance_types)
    with mock_aws():
        forget_clients()
        yield
    forget_clients()


def make_bucket() -> None:
    where = {"LocationConstraint": REGION}
    boto3.client("s3", REGION).create_bucket(Bucket=EDITED["bucket"], CreateBucketConfiguration=where)


def forget_clients() -> None:
    """Drop the clients that Ray keeps; they belong to the account of an earlier test."""
    utils.resource_cache.cache_clear()
    utils.client_cache.cache_clear()


def list_some_instance_types(region: str, _credentials: object = None) -> list[dict[str, Any]]:
    types = ["m7i.large", "g6.xlarge", "g6.12xlarge"]
    return boto3.client("ec2", region).describe_instance_types(InstanceTypes=types)["InstanceTypes"]


def edited_file(folder: Path, **changes: Any) -> Path:
    """Write cluster.yaml as a user does who edits the lines under `metadata`."""
    text = (ROOT / "cluster.yaml").read_text()
    for name, value in (EDITED | changes).items():
        text, edits = re.subn(rf"(?m)^(  {name}: (?:&\w+ )?)\S+", rf"\g<1>{value}", text)
        assert edits == 1, name
    path = folder / "cluster.yaml"
    path.write_text(text)
    return path


def watch_launches(client: Any, *, spot: str | int = "", on_demand: str | int = "") -> list[tuple[str, int]]:
    """Return the list of launches, (market, machines wanted), as they are asked for.

    A market answers with an error code, or has so many machines for each launch, or has enough.
    """
    asked: list[tuple[str, int]] = []

    def answer(params: dict[str, Any], **_: object) -> None:
        body = params["body"]
        market = body.get("InstanceMarketOptions.MarketType", "on demand")
        asked.append((market, body["MaxCount"]))
        stock = spot if market == "spot" else on_demand
        if isinstance(stock, int):
            body["MaxCount"] = min(stock, body["MaxCount"])
        elif stock:
            raise ClientError({"Error": {"Code": stock, "Message": "none left"}}, "RunInstances")
        body["MinCount"] = body["MaxCount"]  # EC2 gives what it has; moto only what must be

    at_launches(client, answer)
    return asked


def at_launches(client: Any, handler: Callable[..., None] | None) -> None:
    """Call a handler at each launch, instead of the last one; Ray keeps its clients from test to test."""
    client.meta.events.unregister("before-call.ec2.RunInstances", unique_id="watch")
    if handler is not None:
        client.meta.events.register("before-call.ec2.RunInstances", handler, unique_id="watch")
