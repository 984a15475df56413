"""Look at one machine: what is installed and what it can reach. Everything is answered as plain values.

Sent by value to every node of a cluster, also to one that lacks this package or has another version of it;
so nothing of it, nor Ray, is imported at the head of this file.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_TREES = ("ftcl", "study", "search_spaces")
_SOURCES = (".py", ".c", ".h", ".yaml")
_GPU_DEVICES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
_GPU_TIMEOUT_S = 90.0  # Triton compiles at its first use, some 20 s
# The alignment is what a trial needs of a GPU beside torch: kernels that Triton builds on the machine.
_ASK_TORCH = """
import json, sys, torch
devices = sys.argv[1:] or [f"cuda:{index}" for index in range(torch.cuda.device_count())]
names = [torch.cuda.get_device_name(device) for device in devices if device != "cpu"]
failed = ""
try:
    from ftcl import dp
except ImportError:  # told by `look`
    devices = []
try:
    for device in devices:
        similarity = torch.eye(4, device=device)[None].requires_grad_()
        dp.lcs(similarity, 0.5, gamma=0.1).sum().backward()
        similarity.grad.sum().item()
except Exception as error:
    failed = (str(error).strip().splitlines() or [type(error).__name__])[0]
print(json.dumps({"names": names, "failed": failed}))
"""
_READ_ATTEMPTS, _READ_PAUSE_S = 4, 0.5  # a shared folder may show a new file late


def look(packages: Sequence[str]) -> dict[str, Any]:
    """Return host, versions of Python and `packages`, digests of our source files, and the cache's disk."""
    return {
        "host": socket.gethostname(),
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in packages}},
        "source": source(),
        "native": has_native(),
        "cores": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "cache": _cache(),
    }


def source() -> dict[str, str]:
    """Return the digest of each of our source files by its name, as Python finds them; empty without them."""
    found: dict[str, str] = {}
    folders = _folders()
    if not {"ftcl", "study"} <= folders.keys():
        return found
    for tree, folder in folders.items():
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SOURCES and path.is_file():
                name = f"{tree}/{path.relative_to(folder).as_posix()}"
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return found


def has_native() -> bool:
    """Say whether the alignment library for the CPU has been built."""
    folder = _folders().get("ftcl")
    return folder is not None and any(folder.glob("dp/backends/_native*.so"))


def gpus(told: float) -> dict[str, Any]:
    """Return the GPUs that torch sees, and why an alignment fails on one or torch sees none.

    Nothing is asked where there is no sign of a GPU, and Ray was told of none (`told`).
    """
    if told == 0 and not any(Path(device).exists() for device in _GPU_DEVICES):
        return {"names": [], "failed": "", "trouble": ""}
    return ask_torch()


def ask_torch(devices: Sequence[str] = ()) -> dict[str, Any]:
    """Align on these devices, or on all GPUs, in a process of its own."""
    # Ray hides a machine's GPUs from a process that holds none.
    environment = {name: value for name, value in os.environ.items() if not name.endswith("VISIBLE_DEVICES")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    nothing = {"names": [], "failed": ""}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _ASK_TORCH, *devices],
            env=environment,
            capture_output=True,
            text=True,
            timeout=_GPU_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {**nothing, "trouble": f"torch has not answered within {_GPU_TIMEOUT_S:.0f} s"}
    lines = done.stderr.strip().splitlines()
    if done.returncode != 0:
        return {**nothing, "trouble": (lines or [f"exit status {done.returncode}"])[-1]}
    seen = json.loads(done.stdout.splitlines()[-1])
    if seen["failed"]:  # of a compiler Python only knows that it has failed
        seen["failed"] = next((line for line in lines if "error:" in line), seen["failed"])
    return {**seen, "trouble": ""}


def clock() -> float:
    """Return this machine's time in seconds."""
    return time.time()


def exchange_probes(location: str, name: str, theirs: str) -> dict[str, Any]:
    """Write a file named `name` into the study and look for that of the driver; say what went wrong."""
    trouble = write_probe(location, name)
    return {"trouble": trouble, "sees": not trouble and read_probes(location, [theirs])[theirs]}


def write_probe(location: str, name: str) -> str:
    """Write a file named `name`, with its name as content, into the study; return what went wrong."""
    try:
        from study.store import open_store

        open_store(location).write(name, name.encode())
    except Exception as error:  # whatever it is belongs into the table
        return _words(error)
    return ""


def read_probes(location: str, names: Sequence[str]) -> dict[str, bool]:
    """Say of each probe whether it is there and whole; wait a little for those that are not."""
    from study.store import open_store

    seen = dict.fromkeys(names, False)
    store = open_store(location)
    for attempt in range(_READ_ATTEMPTS):
        time.sleep(_READ_PAUSE_S if attempt else 0)
        for name in (name for name, there in seen.items() if not there):
            try:
                seen[name] = store.read(name) == name.encode()
            except OSError:
                continue
        if all(seen.values()):
            break
    return seen


def remove_probes(location: str, names: Sequence[str], made: Sequence[str]) -> None:
    """Remove probes; then their folder, and those `made` for it, the innermost first, if they are empty."""
    try:
        from study.store import open_store

        store = open_store(location)
        for name in names:
            store.delete(name)
        folder = os.path.dirname(names[0])
        if store.local is None:
            if not store.names(folder):  # Arrow keeps the name of an empty one as an object
                store.delete_folder(folder)
            return
        (store.local / folder).rmdir()
        for each in made:
            os.rmdir(each)
    except Exception:  # nothing depends on it
        return


def check_data(spec: str, case: Mapping[str, Any], fingerprint: str) -> str:
    """Open the data as a trial does, after they are copied and verified; return what went wrong."""
    try:
        from study.staging import open_data

        open_data(spec, **case, fingerprint=fingerprint)
    except Exception as error:  # whatever it is belongs into the table
        return _words(error)
    return ""


def _folders() -> dict[str, Path]:
    """Return where our packages lie: those that have an __init__.py or files of their own."""
    found = {}
    for tree in _TREES:
        spec = importlib.util.find_spec(tree)
        if spec is not None and spec.origin is not None:
            found[tree] = Path(spec.origin).parent
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cache() -> dict[str, Any]:
    """Return where copies of data lie, and how much is free there."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ftcl"
    existing = next(path for path in (base, *base.parents) if path.exists())
    writable = os.access(existing, os.W_OK)
    return {"folder": str(base), "free": shutil.disk_usage(existing).free, "writable": writable}


def _words(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    if isinstance(error, ImportError):
        return f"{text} (is the project installed there?)"
    return text
