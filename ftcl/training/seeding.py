"""One generator for each use of randomness, all from a run's seed."""

import hashlib

import torch


def seeded_generator(seed: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator that depends on `seed` and `purpose` only.

    Since every purpose has its own, switching one use of randomness off leaves the draws of the others alone:
    two runs that differ in a loss see the same videos, snippets and dropout.
    """
    digest = hashlib.sha256(f"{purpose}/{seed}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "little") >> 1)
