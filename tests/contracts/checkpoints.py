"""What the checkpoints of a trial promise in every kind of store; a test class for each inherits it.

The class gives the fixture `store`, empty and used by no other test.
"""

from typing import Any

import pytest
import torch

from study.checkpoints import AttemptCheckpoints, Fenced, checkpoint_folder, digest
from study.store import Store

FOLDER = checkpoint_folder("run")


def content(epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "weights": torch.full((500,), float(epoch))}


def attempt(store: Store, number: int = 1, *, keep: int = 2, run: str = "run") -> AttemptCheckpoints:
    return AttemptCheckpoints(store, run, number, keep=keep)


def saved(store: Store) -> list[tuple[int, int]]:
    """Attempt and epoch of each state that lies in the store."""
    names = [name for name in store.names(FOLDER) if name.endswith(".pt")]
    return [(int(name[:4]), int(name[5:11])) for name in names]


def loaded_epoch(checkpoints: AttemptCheckpoints) -> int | None:
    found = checkpoints.load()
    return None if found is None else found["epoch"]


class CheckpointContract:
    def test_the_newest_state_is_loaded(self, store: Store) -> None:
        first = attempt(store)
        assert first.load() is None
        for epoch in (1, 2, 3):
            first.save(epoch, content(epoch))
        found = attempt(store, 2).load()
        assert found is not None
        assert found["epoch"] == 3
        assert torch.equal(found["weights"], torch.full((500,), 3.0))

    @pytest.mark.parametrize("keep", [1, 2, 5])
    def test_only_the_newest_states_are_kept_of_all_attempts(self, store: Store, keep: int) -> None:
        first = attempt(store, keep=keep)
        for epoch in (1, 2, 3):
            first.save(epoch, content(epoch))
        second = attempt(store, 2, keep=keep)
        second.save(4, content(4))
        everything = [(1, 1), (1, 2), (1, 3), (2, 4)]
        assert saved(store) == everything[-keep:]
        second.keep_newest()
        assert saved(store) == [(2, 4)]
        assert [name for name in store.names(FOLDER) if name.endswith(".begun")] == ["0002.begun"]

    @pytest.mark.parametrize(
        "spoil",
        [
            pytest.param(
                lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:],
                id="one bit flipped",
                marks=pytest.mark.situation(
                    "storage",
                    "a bit of the newest checkpoint has flipped",
                    "the digest in its name gives it away; the trial goes on from the checkpoint before",
                ),
            ),
            pytest.param(
                lambda data: data[: len(data) // 2],
                id="truncated",
                marks=pytest.mark.situation(
                    "storage",
                    "the newest checkpoint is truncated",
                    "it is deleted and noted; the trial goes on from the checkpoint before",
                ),
            ),
            pytest.param(lambda data: b"", id="empty"),
            pytest.param(lambda data: b"\0" * len(data), id="zeroed"),
        ],
    )
    def test_a_damaged_state_gives_way_to_the_one_before(self, store: Store, spoil: Any) -> None:
        first = attempt(store)
        for epoch in (1, 2):
            first.save(epoch, content(epoch))
        newest = f"{FOLDER}/{next(name for name in store.names(FOLDER) if name.startswith('0001-000002'))}"
        store.write(newest, spoil(store.read(newest)))
        second = attempt(store, 2)
        assert loaded_epoch(second) == 1
        assert second.notes == [f"{newest} was damaged and is deleted: its content does not match its name"]
        assert not store.exists(newest)
        second.save(2, content(2))
        assert loaded_epoch(attempt(store, 3)) == 2

    @pytest.mark.situation(
        "storage",
        "all checkpoints of a trial are damaged",
        "they are deleted and noted, and the trial begins anew",
    )
    def test_nothing_whole_is_a_fresh_start(self, store: Store) -> None:
        first = attempt(store)
        for epoch in (1, 2):
            first.save(epoch, content(epoch))
        for name in store.names(FOLDER):
            if name.endswith(".pt"):
                store.write(f"{FOLDER}/{name}", b"nothing")
        second = attempt(store, 2)
        assert second.load() is None
        assert len(second.notes) == 2
        assert saved(store) == []

    def test_a_whole_file_that_is_no_checkpoint_is_passed_over(self, store: Store) -> None:
        first = attempt(store)
        first.save(1, content(1))
        store.write(f"{FOLDER}/0001-000002-{digest(b'text')}.pt", b"text")
        second = attempt(store, 2)
        assert loaded_epoch(second) == 1
        assert "not a readable checkpoint" in second.notes[0]

    @pytest.mark.situation(
        "kill",
        "a worker whose machine was given up is still running and writing (a zombie)",
        "it finds the later attempt, writes no more and reports nothing",
    )
    def test_a_zombie_writes_no_more(self, store: Store) -> None:
        zombie = attempt(store, 1)
        zombie.save(1, content(1))
        second = attempt(store, 2)
        assert loaded_epoch(second) == 1
        for write in (
            lambda: zombie.save(2, content(2)),
            zombie.require_newest,
            zombie.keep_newest,
            zombie.discard,
            zombie.load,
        ):
            with pytest.raises(Fenced, match="a later attempt than 1 has begun"):
                write()
        second.save(2, content(2))
        assert saved(store) == [(1, 1), (2, 2)]

    def test_what_a_zombie_managed_to_write_is_used_only_by_the_next_attempt(self, store: Store) -> None:
        zombie = attempt(store, 1)
        for epoch in (1, 2, 3):
            zombie.save(epoch, content(epoch))
        second = attempt(store, 2)
        second.save(2, content(2))
        # The later attempt counts, however far the zombie has come.
        assert loaded_epoch(attempt(store, 3)) == 2

    @pytest.mark.situation(
        "storage",
        "the ledger has lost its tail and counts a trial's attempts anew",
        "the trial still finds its checkpoints, and its earlier workers are still fenced off",
    )
    @pytest.mark.parametrize("number", [1, 2, 3])
    def test_an_attempt_is_newer_than_all_that_it_finds(self, store: Store, number: int) -> None:
        attempt(store, 1).save(1, content(1))
        earlier = attempt(store, 3)
        earlier.save(2, content(2))
        now = attempt(store, number)
        assert now.fence == 4
        assert loaded_epoch(now) == 2
        now.save(3, content(3))
        with pytest.raises(Fenced):
            earlier.save(3, content(3))

    def test_a_number_of_its_own_is_kept(self, store: Store) -> None:
        assert attempt(store, 1).fence == 1
        assert attempt(store, 7).fence == 7
        assert attempt(store, 12345).fence == 12345
        assert attempt(store, 8).fence == 12346

    def test_runs_do_not_see_each_other(self, store: Store) -> None:
        attempt(store, run="run").save(1, content(1))
        other = attempt(store, run="other")
        assert other.load() is None
        other.discard()
        assert saved(store) == [(1, 1)]

    def test_states_of_another_run_are_discarded(self, store: Store) -> None:
        first = attempt(store)
        first.save(1, content(1))
        first.discard()
        assert saved(store) == []
        assert first.load() is None

    def test_what_a_killed_writer_left_is_deleted(self, store: Store) -> None:
        store.write(f"{FOLDER}/.0001-000002-0123456789abcdef.pt.0a1b2c3d4e5f.tmp", b"half")
        second = attempt(store, 2)
        second.save(1, content(1))
        assert [name for name in store.names(FOLDER) if name.startswith(".")] == []
