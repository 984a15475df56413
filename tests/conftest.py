"""What all tests share: a cache of their own, one thread, and a Ray that stays on this machine."""

import os
import tempfile

import pytest

# Set before torch or Ray is imported, and inherited by every process that a test starts.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["XDG_CACHE_HOME"] = os.path.join(tempfile.gettempdir(), f"study-tests-cache-{os.getuid()}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a GPU where there is none; CI takes a skipped test as a failure."""
    import torch

    if torch.cuda.is_available():
        return
    needs_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if needs_gpu:
        config.hook.pytest_deselected(items=needs_gpu)
        items[:] = [item for item in items if item not in needs_gpu]
