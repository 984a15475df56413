"""Checkpoints on a local disk and in memory; over S3 they stand in tests/system."""

import secrets
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import pytest
import torch

from study.checkpoints import AttemptCheckpoints
from study.store import Store, open_store
from tests.contracts.checkpoints import FOLDER, CheckpointContract, attempt, content, loaded_epoch, saved


class TestLocal(CheckpointContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(tmp_path / "out")


class TestMemory(CheckpointContract):
    @pytest.fixture
    def store(self) -> Store:
        return open_store(f"memory://{secrets.token_hex(4)}/out")


def test_a_state_that_vanishes_while_it_is_looked_for_is_no_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(tmp_path)
    zombie = attempt(store, keep=1)
    zombie.save(1, content(1))
    second = attempt(store, 2)
    read = Store.read

    def read_late(self: Store, name: str) -> bytes:
        # The zombie had passed its look at the fence when the second attempt began.
        monkeypatch.setattr(Store, "read", read)
        monkeypatch.setattr(AttemptCheckpoints, "require_newest", lambda own: store.names(own.folder))
        zombie.save(2, content(2))
        return read(self, name)

    monkeypatch.setattr(Store, "read", read_late)
    assert loaded_epoch(second) == 2


def test_large_states_are_held_once_while_they_are_written(tmp_path: Path) -> None:
    """Beside the weights themselves there is one copy of them, the file in the making."""
    size = 40 * 2**20
    state = {"weights": torch.zeros(size // 4)}
    checkpoints = attempt(open_store(tmp_path))
    tracemalloc.start()
    checkpoints.save(1, state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < peak < 1.3 * size


@pytest.mark.situation(
    "kill",
    "a worker is killed with SIGKILL while it writes a checkpoint",
    "the one before stays whole; the trial goes on from it, and the half-written file is removed",
)
def test_a_kill_while_writing_leaves_the_state_before(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from study.store import open_store
        from tests.contracts.checkpoints import attempt, content
        checkpoints = attempt(open_store(sys.argv[1]))
        checkpoints.save(1, content(1))
        os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
        checkpoints.save(2, content(2))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path)], check=False)
    assert done.returncode == -9
    store = open_store(tmp_path)
    assert saved(store) == [(1, 1)]
    assert len([name for name in store.names(FOLDER) if name.endswith(".tmp")]) == 1
    second = attempt(store, 2)
    assert loaded_epoch(second) == 1
    second.save(2, content(2))
    assert not [name for name in store.names(FOLDER) if name.endswith(".tmp")]
