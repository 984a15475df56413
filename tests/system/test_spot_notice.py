"""deploy/spot_notice.py on a node of a real Ray: what runs there goes on, nothing new starts."""

import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ADDRESS = "127.0.0.1:6379"
DRIVER = """
import sys, ray
ray.init(address="auto", log_to_driver=False)

@ray.remote(num_cpus=1)
class Trial:
    def epoch(self):
        return "an epoch"

@ray.remote(num_cpus=1)
def another():
    return "another trial"

trial = Trial.remote()
print(ray.get(trial.epoch.remote()), flush=True)
print(ray.get(another.remote()), flush=True)
sys.stdin.readline()
late = another.remote()
done, _ = ray.wait([late], timeout=5)
print("started" if done else "not started", flush=True)
print(ray.get(trial.epoch.remote()), flush=True)
"""


class Metadata(BaseHTTPRequestHandler):
    """What EC2 says to a machine that it is about to take back."""

    def do_PUT(self) -> None:
        self._say("token")

    def do_GET(self) -> None:
        ends = datetime.now(UTC) + timedelta(minutes=2)
        self._say(f'{{"action": "terminate", "time": "{ends:%Y-%m-%dT%H:%M:%SZ}"}}')

    def _say(self, text: str) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a node with two CPUs that has been started with a token."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": ADDRESS}
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"]
    command += ["--port", ADDRESS.rpartition(":")[2], "--node-ip-address", "127.0.0.1"]
    command += ["--include-dashboard", "false", "--object-store-memory", "80000000"]
    command += ["--temp-dir", str(tmp_path_factory.mktemp("ray"))]
    process = subprocess.Popen(
        command,
        env={name: value for name, value in environment.items() if name != "RAY_ADDRESS"},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert any("Ray runtime started" in line for line in process.stdout)
    yield environment
    process.terminate()  # with --block it ends all that it has started
    process.wait(timeout=30)


@pytest.mark.situation("environment", "a spot machine is announced to go", "no trial starts there any more")
def test_announced_end_keeps_new_trials_away(node: dict[str, str], metadata: str):
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env=node,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert driver.stdin is not None and driver.stdout is not None
    assert [driver.stdout.readline().strip() for _ in range(2)] == ["an epoch", "another trial"]
    script = [sys.executable, str(ROOT / "deploy" / "spot_notice.py"), "aws", "--metadata", metadata]
    subprocess.run(script, env=node, check=True, timeout=60)
    driver.stdin.write("\n")
    driver.stdin.flush()
    assert [driver.stdout.readline().strip() for _ in range(2)] == ["not started", "an epoch"]
    driver.stdin.close()
    assert driver.wait(timeout=30) == 0
