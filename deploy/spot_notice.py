#!/usr/bin/env python3
"""Wait until the cloud announces that it takes this spot machine back, then drain its Ray node.

A draining node gets no new trials; those that run go on until the machine goes, and are continued elsewhere.
AWS announces it two minutes ahead, Google Cloud half a minute. A machine on demand is simply never announced.
"""

import argparse
import http.client
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

_METADATA: Final = {"aws": "http://169.254.169.254", "gcp": "http://metadata.google.internal"}
_TIMEOUT_S: Final = 5.0
_GCP_NOTICE_S: Final = 30


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cloud", choices=_METADATA)
    parser.add_argument("--metadata", help="address of the metadata server, if not the cloud's")
    parser.add_argument("--every", type=float, default=5.0, metavar="S", help="how often to ask, in seconds")
    args = parser.parse_args()
    look = {"aws": aws_notice, "gcp": gcp_notice}[args.cloud]
    while (left_s := ask(look, args.metadata or _METADATA[args.cloud])) is None:
        time.sleep(args.every)
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC: this machine goes in {left_s} s; draining", flush=True)
    command = [str(Path(sys.executable).with_name("ray")), "drain-node"]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the cloud takes it back"]
    ends_s = time.monotonic() + left_s
    while True:
        left_s = max(0, int(ends_s - time.monotonic()))
        done = subprocess.run([*command, "--deadline-remaining-seconds", str(left_s)], check=False)
        if done.returncode == 0 or left_s == 0:
            return done.returncode
        time.sleep(min(args.every, left_s))  # the head may be slow, or be starting again


def ask(look: Callable[[str], int | None], metadata: str) -> int | None:
    """Return the seconds until the machine goes, None if nothing is announced or nobody answers."""
    try:
        return look(metadata)
    except (OSError, http.client.HTTPException, ValueError, TypeError, KeyError) as error:
        if not (isinstance(error, urllib.error.HTTPError) and error.code == 404):  # 404: no announcement
            print(f"{metadata} does not say: {error}", flush=True)
        return None


def aws_notice(metadata: str) -> int:
    """Return the seconds until EC2 ends this machine. Raises HTTPError 404 if it does not."""
    token = fetch(f"{metadata}/latest/api/token", "PUT", {"X-aws-ec2-metadata-token-ttl-seconds": "60"})
    address = f"{metadata}/latest/meta-data/spot/instance-action"
    notice = json.loads(fetch(address, "GET", {"X-aws-ec2-metadata-token": token}))
    ends = datetime.fromisoformat(notice["time"])
    return max(0, int((ends - datetime.now(UTC)).total_seconds()))


def gcp_notice(metadata: str) -> int | None:
    """Return the seconds until Google Cloud ends this machine, None if it does not."""
    address = f"{metadata}/computeMetadata/v1/instance/preempted"
    return _GCP_NOTICE_S if fetch(address, "GET", {"Metadata-Flavor": "Google"}) == "TRUE" else None


def fetch(address: str, method: str, headers: dict[str, str]) -> str:
    request = urllib.request.Request(address, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:
        return answer.read().decode().strip()


if __name__ == "__main__":
    sys.exit(main())
