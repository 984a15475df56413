"""Where to compute."""

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The named device; "auto" is the first of cuda, mps and cpu that is there. ValueError if it is not.

    On cuda, cuDNN may then choose only algorithms that repeat bit for bit, since a continued run must equal
    an uninterrupted one. TF32 is off: with its 10 bits of mantissa cosine similarities near LCS's threshold
    would fall on either side of it, other than on a CPU. Both switches are those of the whole process.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if not available[name]:
        raise ValueError(f"no {name} device here; --device auto takes what there is")
    if name == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False
    return torch.device(name)
