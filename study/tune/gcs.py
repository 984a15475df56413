"""What a Ray cluster says to a process that comes to it: run as `python -m study.tune.gcs ADDRESS`.

A process of its own, since Ray's client tries for 20 s, fills the error stream meanwhile, and takes token and
time limits from the environment when it is imported. Prints an Answer as JSON.
"""

import dataclasses
import json
import os
import socket
import sys
from dataclasses import dataclass
from typing import Any, Literal

Trouble = Literal["no_cluster", "bad_address", "no_listener", "no_token", "wrong_token", "silent", "no_node"]


@dataclass(frozen=True)
class Answer:
    """Where the cluster is and what it runs; or what is in the way, with details for the message."""

    trouble: Trouble | None = None
    details: str = ""
    address: str = ""  # HOST:PORT
    needs_token: bool = False
    ray: str | None = None
    python: str | None = None


def ask(address: str, connect_timeout_s: float) -> Answer:
    """Go to a cluster as `ray.init` does, and say what it answers.

    Ray must be imported for the first time here, with `RAY_AUTH_MODE` `disabled`.
    """
    from ray._common.usage.usage_lib import get_cluster_metadata
    from ray._private import services
    from ray.exceptions import RpcError

    try:
        found = str(services.canonicalize_bootstrap_address(address))
    except ConnectionError as error:
        return Answer("no_cluster", str(error), address=address)
    except OSError as error:
        return Answer("no_listener", error.strerror or str(error), address=address)
    except ValueError as error:
        return Answer("bad_address", str(error), address=address)
    shown = found if address == "auto" else address
    try:
        host, _, port = found.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), timeout=connect_timeout_s).close()
    except OSError as error:
        details = error.strerror or str(error)
        # Ray takes the machine's own address for that of its loopback.
        return Answer("no_listener", details if found == shown else f"{found}: {details}", address=shown)
    try:
        client, answer = _enter(found, shown)
    except RpcError:
        return Answer("silent", address=shown)
    if client is None:
        return answer
    versions = get_cluster_metadata(client) or {}
    here = set(services.find_node_ids())
    nodes = {node.hex() for node in client.get_all_node_info(timeout=connect_timeout_s)}
    return dataclasses.replace(
        answer,
        trouble=None if here & nodes else "no_node",
        ray=versions.get("ray_version"),
        python=versions.get("python_version"),
    )


def _enter(address: str, shown: str) -> tuple[Any, Answer]:
    """Return a client of the cluster, without a token if that does, else with the one that is here."""
    from ray._raylet import (  # type: ignore[attr-defined]
        AuthenticationTokenLoader,
        Config,
        GcsClient,
    )
    from ray.exceptions import AuthenticationError

    try:
        return GcsClient(address=address), Answer(address=shown)
    except AuthenticationError:
        pass
    if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        return None, Answer("no_token", address=shown, needs_token=True)
    os.environ["RAY_AUTH_MODE"] = "token"
    Config.initialize("")
    try:
        return GcsClient(address=address), Answer(address=shown, needs_token=True)
    except AuthenticationError:
        return None, Answer("wrong_token", address=shown, needs_token=True)


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(ask(sys.argv[1], float(sys.argv[2])))))
