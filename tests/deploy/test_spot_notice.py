"""deploy/spot_notice.py against a pretended metadata server, with a pretended `ray` beside its Python."""

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from deploy import spot_notice

SCRIPT = Path(spot_notice.__file__)
Answer = Callable[["Metadata", str], tuple[int, str]]
CUT_OFF = 206  # an answer with this status is shorter than it says


class Metadata:
    """A metadata server: what is asked is counted, and from the third question on the machine is to go."""

    def __init__(self, answer: Answer) -> None:
        self.questions = 0
        metadata = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(*answer(metadata, f"GET {self.path} {dict(self.headers)}"))

            def do_PUT(self) -> None:
                self._say(*answer(metadata, f"PUT {self.path} {dict(self.headers)}"))

            def _say(self, status: int, text: str) -> None:
                self.send_response(status)
                if status == CUT_OFF:
                    self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


def aws(metadata: Metadata, request: str) -> tuple[int, str]:
    if request.startswith("PUT /latest/api/token"):
        return (200, "secret") if "X-Aws-Ec2-Metadata-Token-Ttl-Seconds" in request else (400, "")
    if "'X-Aws-Ec2-Metadata-Token': 'secret'" not in request:
        return 401, ""
    assert "/latest/meta-data/spot/instance-action" in request
    metadata.questions += 1
    if metadata.questions < 3:
        return 404, "none"
    ends = datetime.now(UTC) + timedelta(seconds=120)
    return 200, json.dumps({"action": "terminate", "time": f"{ends:%Y-%m-%dT%H:%M:%SZ}"})


def gcp(metadata: Metadata, request: str) -> tuple[int, str]:
    if "'Metadata-Flavor': 'Google'" not in request:
        return 403, ""
    assert "/computeMetadata/v1/instance/preempted" in request
    metadata.questions += 1
    return 200, "FALSE" if metadata.questions < 3 else "TRUE"


def out_of_order(metadata: Metadata, request: str) -> tuple[int, str]:
    metadata.questions += 1
    troubles = {1: (503, "busy"), 2: (CUT_OFF, "secr")}
    return troubles.get(metadata.questions) or aws(metadata, request)


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A Python with a `ray` beside it that fails once, and then writes down its arguments."""
    (tmp_path / "ray").write_text(
        '#!/bin/sh\ncd "$(dirname "$0")"\nmkdir failed 2>/dev/null && exit 1\nprintf "%s\\n" "$@" > called\n'
    )
    (tmp_path / "ray").chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    return tmp_path / "python"


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Metadata]]:
    servers: list[Metadata] = []

    def start(answer: Answer) -> Metadata:
        servers.append(Metadata(answer))
        return servers[-1]

    yield start
    for metadata in servers:
        metadata.server.shutdown()


@pytest.mark.parametrize(
    ("cloud", "answer", "notice_s"),
    [("aws", aws, range(110, 121)), ("gcp", gcp, range(28, 31)), ("aws", out_of_order, range(110, 121))],
    ids=["aws", "gcp", "metadata out of order at first"],
)
def test_node_is_drained_when_its_end_is_announced(
    cloud: str,
    answer: Answer,
    notice_s: range,
    python: Path,
    serve: Callable[[Answer], Metadata],
):
    metadata = serve(answer)
    command = [str(python), str(SCRIPT), cloud, "--metadata", metadata.address, "--every", "0.05"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert metadata.questions >= 3  # not before it was announced
    called = (python.parent / "called").read_text().splitlines()
    assert called[:3] == ["drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    assert called[-2] == "--deadline-remaining-seconds"
    assert int(called[-1]) in notice_s
    assert "draining" in run.stdout


def test_nobody_answers(capsys: pytest.CaptureFixture[str]):
    assert spot_notice.ask(spot_notice.aws_notice, "http://127.0.0.1:9") is None
    assert "does not say" in capsys.readouterr().out
