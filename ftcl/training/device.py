"""Where to compute."""

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The named device; "auto" is the first of cuda, mps and cpu that is there. ValueError if it is not."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise ValueError(f"no {name} device here; --device auto takes what there is")
    return torch.device(name)
