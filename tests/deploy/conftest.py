"""What the tests of cluster files share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy import aws


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An AWS account with the bucket `studies` only, and a home; the working directory is the checkout."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(aws.ROOT)
        home = tmp_path_factory.mktemp("home")
        with aws.pretended(monkeypatch, home):
            aws.make_bucket()
            yield home
