"""Whether this process can run a study's trials as they are meant: with the code of the driver, and on a GPU
if they were granted one."""

import functools
import socket
from collections.abc import Mapping
from typing import Any

from ftcl.training.device import choose_device
from study.manifest import code, own_code, versions
from study.verdicts import judge_software


@functools.cache
def software() -> Mapping[str, Any]:
    """Return this process's own code and versions, as they were when it first asked; 10 ms."""
    return {"source": own_code(), "versions": versions(), "native": False}


def other_software(launched: Mapping[str, Any]) -> str | None:
    """Say what to do where this process has other code or versions than the driver, if it said its own."""
    if not launched or launched == software():
        return None
    unlike = [str(finding) for finding in judge_software(launched, software()) if finding.level == "error"]
    if not unlike:
        return None
    return f"{socket.gethostname()} is not as the study was launched: {'; '.join(unlike)}"


def changed_code() -> str | None:
    """Say whether the code on this machine is other than what this process has loaded."""
    then, now = own_code(), code()
    changed = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    if not changed:
        return None
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"the code here has changed since this study was launched: {changed[0]}{more}"


def missing_gpu(gpus: float) -> str | None:
    """Say what to do where a trial holds GPUs, or a share of one, and would train on the CPU."""
    if gpus == 0 or choose_device().type != "cpu":
        return None
    return (
        f"{socket.gethostname()} has no GPU for torch: Ray counts a GPU here, torch sees none; look at "
        "nvidia-smi, install torch's build for its driver (deploy/node.sh install gpu), or give "
        "--gpus-per-trial 0"
    )
