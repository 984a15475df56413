"""Data that a test opens as a trial does, and what is verified meanwhile."""

from typing import Any

import pytest

from ftcl.data import VideoDataset, load_dataset
from study import staging
from study.staging import open_data


def opened(spec: str, fingerprint: str | None = None, **changes: Any) -> VideoDataset:
    return open_data(spec, **{"fold": 0, "seed": 0, "hold_out": True, "fingerprint": fingerprint, **changes})


def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The data that are verified from now on."""
    seen: list[str] = []

    def load(spec: str, **words: Any) -> VideoDataset:
        if words.get("verify", True):
            seen.append(spec)
        return load_dataset(spec, **words)

    monkeypatch.setattr(staging, "load_dataset", load)
    return seen
