"""What the tests share that need root, a server, or more than a few seconds: `make test-system`."""

import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.chaos.loopback import enter_own_network
from tests.system.browser import require_browser
from tests.system.hosts import require_programs
from tests.system.postgres import Server, find_programs, running_server

RAY_TOKEN = secrets.token_hex(32)  # of all tests: Ray keeps the first that it reads


@pytest.fixture(scope="session", autouse=True)
def own_network() -> None:
    """Keep all servers and clusters of these tests to themselves, once what they need is installed."""
    find_programs()
    require_programs()
    require_browser()
    enter_own_network()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this session."""
    with running_server() as server:
        yield server


@pytest.fixture
def ray_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """What a user of a cluster sets on every node, for a cluster that is started in this process."""
    from study.tune.environment import prepare_environment

    before = dict(os.environ)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", RAY_TOKEN)
    for name, value in {"initial_delay_ms": "1000", "period_ms": "1000", "failure_threshold": "3"}.items():
        monkeypatch.setenv(f"RAY_health_check_{name}", value)
    # Workers must find the packages, whatever folder they start in.
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    prepare_environment("auto")

    from ray._raylet import Config

    Config.initialize("")  # whoever imported Ray first, and with whatever environment
    yield monkeypatch
    os.environ.clear()
    os.environ.update(before)
