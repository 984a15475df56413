"""Whether this process can run a study's trials as they are meant: on the GPU that they were granted."""

import socket

from ftcl.training.device import choose_device


def missing_gpu(gpus: float) -> str | None:
    """Say what to do where a trial holds GPUs, or a share of one, and would train on the CPU."""
    if gpus == 0 or choose_device().type != "cpu":
        return None
    return (
        f"{socket.gethostname()} has no GPU for torch: Ray counts a GPU here, torch sees none; look at "
        "nvidia-smi, install torch's build for its driver (deploy/node.sh install gpu), or give "
        "--gpus-per-trial 0"
    )
