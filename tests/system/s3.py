"""An object store of the tests' own: moto's S3 server as a process on loopback."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import boto3

REGION = "us-east-1"
_START_TIMEOUT_S = 60.0


class Server:
    """One server with one bucket; it forgets everything when it stops."""

    bucket = "studies"

    def __init__(self) -> None:
        # moto takes port 0 and says which one it got. It logs every request, more than an unread pipe holds.
        with tempfile.TemporaryFile("w+") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
            self.port = self._listening_port(log)
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self._client("s3").create_bucket(Bucket=self.bucket)

    def uri(self, folder: str, *, bucket: str | None = None) -> str:
        """Return the address of a folder, which needs nothing of the environment but keys."""
        return (
            f"s3://{bucket or self.bucket}/{folder}?endpoint_override=127.0.0.1:{self.port}&scheme=http"
            f"&region={REGION}"
        )

    def hang(self) -> None:
        """Take connections and answer nothing, until `go_on`."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.go_on()
        self._process.kill()
        self._process.wait()

    def make_keys(self, *actions: str) -> dict[str, str]:
        """Return the environment of a new user who may do these actions."""
        iam, name = self._client("iam"), f"user-{time.monotonic_ns()}"
        iam.create_user(UserName=name)
        statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_user_policy(UserName=name, PolicyName="all", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

    @contextmanager
    def asking_for_keys(self) -> Iterator[None]:
        """Serve only who has keys, as a real server does; otherwise any keys will do."""
        self._post("reset-auth", "0")
        try:
            yield
        finally:
            self._post("reset-auth", "inf")

    def _post(self, action: str, text: str) -> None:
        request = urllib.request.Request(
            f"{self.endpoint}/moto-api/{action}",
            data=text.encode(),
            headers={"Content-Type": "text/plain"},
            method="POST",
        )
        urllib.request.urlopen(request, timeout=10).close()

    def _client(self, service: str) -> Any:
        return boto3.client(
            service,
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

    def _listening_port(self, log: TextIO) -> int:
        started_s = time.monotonic()
        while time.monotonic() - started_s < _START_TIMEOUT_S and self._process.poll() is None:
            log.seek(0)
            if found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", log.read()):
                return int(found[1])
            time.sleep(0.1)
        self._process.kill()
        raise AssertionError("the S3 server does not start")


@contextmanager
def running_server() -> Iterator[Server]:
    """Run a server for a block, and set keys for it in the environment."""
    names = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_EC2_METADATA_DISABLED": "true"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    server = Server()
    try:
        yield server
    finally:
        server.stop()
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
