"""Where the attempts of a trial keep their states: files that prove their content, fenced by attempt.

    checkpoints/<run key>/<fence>.begun                     an attempt has begun
    checkpoints/<run key>/<fence>-<epoch>-<digest>.pt       its state after an epoch

A worker that the study has given up (its machine fell silent) may still be running and writing. Each attempt
announces itself under a number above all that it finds, its fence; whoever finds a higher one than its own
is such a zombie, and writes no more. The number is the attempt's own, unless the ledger has lost its tail and
counts anew.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import torch

from ftcl.training.checkpoint import read_checkpoint
from study.store import Store

_ANNOUNCED: Final = re.compile(r"(\d{4,})\.begun")
_SAVED: Final = re.compile(r"(\d{4,})-(\d{6,})-([0-9a-f]{16})\.pt")
_TEMPORARY: Final = re.compile(r"\.(\d{4,})[-.].*\.tmp")  # of ftcl.files, left by a killed process


class Fenced(Exception):
    """A later attempt of the trial has begun: this one is to write and to report nothing more."""


class _Saved(NamedTuple):
    fence: int
    epoch: int
    digest: str
    name: str


class AttemptCheckpoints:
    """The checkpoints of a trial, as one of its attempts reads and writes them."""

    def __init__(self, store: Store, run_key: str, attempt: int, *, keep: int) -> None:
        """Announce the attempt; `keep` of the trial's newest checkpoints stay."""
        self.folder = checkpoint_folder(run_key)
        self.notes: list[str] = []  # what was found damaged
        self._store = store
        self._keep = keep
        announced = _fences(store.names(self.folder))
        self.fence = max([attempt, *(fence + 1 for fence in announced)])
        store.write(f"{self.folder}/{self.fence:04}.begun", b"")

    def __str__(self) -> str:
        return self._store.place(self.folder)

    def require_newest(self) -> list[str]:
        """Return the names in the folder; raise Fenced if a later attempt has announced itself there."""
        names = self._store.names(self.folder)
        if any(fence > self.fence for fence in _fences(names)):
            raise Fenced(f"a later attempt than {self.fence} has begun in {self}")
        return names

    def load(self) -> dict[str, Any] | None:
        """Return the newest state that is whole, by attempt and epoch; damaged ones are deleted."""
        for saved in reversed(_saved(self.require_newest())):
            name = f"{self.folder}/{saved.name}"
            try:
                content = self._store.read(name)
            except FileNotFoundError:
                return self.load()  # a zombie's last save has replaced it
            # torch does not check the sums in its files, so a flipped bit would be trained on.
            problem = "its content does not match its name"
            if digest(content) == saved.digest:
                try:
                    return read_checkpoint(io.BytesIO(content), name)
                except ValueError as error:
                    problem = str(error)
            self.notes.append(f"{name} was damaged and is deleted: {problem}")
            self._store.delete(name)
        return None

    def save(self, epoch: int, content: Mapping[str, Any]) -> None:
        """Write the state after an epoch, then delete what is older than the newest `keep`."""
        with serialised(content) as data:
            name = f"{self.fence:04}-{epoch:06}-{digest(data)}.pt"
            names = self.require_newest()
            self._store.write(f"{self.folder}/{name}", data)
        self._prune([*names, name], self._keep)

    def keep_newest(self) -> None:
        """Delete all but the newest state: the trial has its result."""
        self._prune(self.require_newest(), 1)

    def discard(self) -> None:
        """Delete all states: they are of another run."""
        self._prune(self.require_newest(), 0)

    def _prune(self, names: list[str], keep: int) -> None:
        states = _saved(names)
        old = [saved.name for saved in states[: max(0, len(states) - keep)]]
        old += [
            name for name in names if (found := _ANNOUNCED.fullmatch(name)) and int(found[1]) < self.fence
        ]
        old += [
            name for name in names if (found := _TEMPORARY.fullmatch(name)) and int(found[1]) < self.fence
        ]
        for name in old:
            self._store.delete(f"{self.folder}/{name}")


def checkpoint_folder(run_key: str) -> str:
    """Return where the checkpoints of a run lie."""
    return f"checkpoints/{run_key}"


def serialised(content: Mapping[str, Any]) -> memoryview:
    """Return a checkpoint's bytes; leaving the view as a context frees them."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getbuffer()


def digest(content: bytes | memoryview) -> str:
    """Return the 16 hex digits by which a file's name proves its content."""
    return hashlib.sha256(content).hexdigest()[:16]


def _fences(names: list[str]) -> list[int]:
    return [int(found[1]) for name in names if (found := _ANNOUNCED.fullmatch(name))]


def _saved(names: list[str]) -> list[_Saved]:
    found = [match for name in names if (match := _SAVED.fullmatch(name))]
    return sorted(_Saved(int(match[1]), int(match[2]), match[3], match[0]) for match in found)
