"""What the tests share that need root, a server, or more than a few seconds: `make test-system`."""

from collections.abc import Iterator

import pytest

from tests.system.postgres import Server, running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server of this session."""
    with running_server() as server:
        yield server
