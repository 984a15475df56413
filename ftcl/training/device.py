"""Which device to train on."""

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or of cuda, mps and cpu the first that is there; ValueError if the named one is not."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    kind = name.partition(":")[0]
    if not available.get(kind, False):
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise ValueError(f"device {name!r} is not available; this machine has: {there}")
    return torch.device(name)
