"""What the tests share that need root, a server, or more than a few seconds: `make test-system`."""

from collections.abc import Iterator

import pytest

from benchmarks.chaos.loopback import enter_own_network
from tests.system.browser import require_browser
from tests.system.hosts import require_programs
from tests.system.postgres import Server, find_programs, running_server


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
