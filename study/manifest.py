"""What was run, on what, with which versions: written once per study, compared when the study continues."""

import datetime
import functools
import hashlib
import importlib.metadata
import os
import platform
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ftcl.dp import available_backends, backends
from study import inspection
from study.extension import fixed_part
from study.records import SCHEMA_VERSION

PACKAGES: Final = (
    "torch",
    "ray",
    "optuna",
    "numpy",
    "pandas",
    "scikit-learn",
    "tensorboard",
    "pyarrow",
    "seglearn",
)
_ROOT: Final = Path(__file__).resolve().parents[1]
_PASSWORD: Final = re.compile(r"(?<=://)([^:/@\s]*):[^@\s]*(?=@)|([?&]password)=[^&\s]*")

# What must be equal for two launches to be one study, with the words that a user knows it by.
_IDENTITY: Final = {
    ("space", "name"): "search space",
    ("space", "definition"): "content of the search space",
    ("recipe", "name"): "recipe",
    ("recipe", "version"): "version of the recipe",
    ("data", "fold"): "fold of the data",
    ("data", "seed"): "data seed",
    ("data", "fingerprint"): "content of the data",
    ("seed",): "seed",
    ("deterministic",): "determinism",
    ("protocol",): "protocol",
}


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return, in words, how two manifests describe different studies."""
    found = []
    for path, name in _IDENTITY.items():
        before, now = _get(old, path), _get(new, path)
        if path == ("space", "definition"):
            before, now = fixed_part(before), fixed_part(now)
        if before == now:
            continue
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += [f"{name}: {line}" for line in _changes(before, now)]
        else:
            found.append(f"{name}: {before} there, {now} now")
    return found


def environment() -> dict[str, Any]:
    """Return versions, hardware and the state of the source tree."""
    return {
        "versions": versions(),
        "alignment": alignment(),
        "git": _git(),
        "hardware": {
            "machine": platform.platform(),
            "cpu": _cpu_model(),
            "cores": usable_cores(),
            "memory_gb": round(memory_bytes() / 1e9, 1),
        },
    }


def command_line() -> list[str]:
    """Return the command as the user typed it, without passwords."""
    return [Path(sys.argv[0]).name, *(_PASSWORD.sub(r"\1\2=***", word) for word in sys.argv[1:])]


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Return the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def new_manifest(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the manifest of a study that starts now; its id sets it apart from all others in a ledger."""
    head = {
        "schema_version": SCHEMA_VERSION,
        "id": f"{name}-{secrets.token_hex(4)}",
        "command": command_line(),
    }
    return {**head, **content, **environment(), "launches": []}


def new_launch(extension: Sequence[str], num_threads: int) -> dict[str, Any]:
    """Return what is written down of each launch that runs trials."""
    git = _git()
    return {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command_line(),
        "versions": versions(),
        "alignment": alignment(),
        "revision": None if git is None else git["revision"],
        "source": source_digest(),
        "num_threads": num_threads,
        "extension": list(extension),
    }


def versions() -> dict[str, str | None]:
    """Return the versions of Python and of the packages that can change a number."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


@functools.cache
def own_code() -> Mapping[str, str]:
    """Return the digests of our Python files as they were when this process, early, first asked."""
    return code()


def code() -> dict[str, str]:
    """Return the digest of each Python file of `ftcl` and `study` by its name, as it is now."""
    return {
        name: digest
        for name, digest in inspection.source().items()
        if name.endswith(".py") and not name.startswith("search_spaces/")
    }


def source_digest() -> str | None:
    """Return one digest of the code of this process; also where there is no git, as on a cluster."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(own_code().items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16] if lines else None


def alignment() -> dict[str, Any]:
    """Return what computes alignments on the CPU, which can change the last bits of a number.

    The backends that are available, the default one first, and the digest of the native one's library.
    """
    libraries = sorted(Path(backends.__file__).parent.glob("_native*"))
    digests = [hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in libraries]
    return {"backends": list(available_backends()), "native": digests[0] if digests else None}


def _get(manifest: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = manifest
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _changes(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in dict.fromkeys((*before, *now)):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            lines += _changes(old, new, f"{prefix}{key}: ")
        else:
            lines.append(f"{prefix}{key}: {old} there, {new} now")
    return lines


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git() -> dict[str, str] | None:
    """Return the revision of the source tree and what differs from it; None outside a checkout of its own."""

    def ask(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *arguments], capture_output=True, text=True, timeout=30, check=True
        )
        return done.stdout

    try:
        if Path(ask("rev-parse", "--show-toplevel").rstrip("\n")).resolve() != _ROOT:
            return None  # of a home that is kept in git, for one
        return {"revision": ask("rev-parse", "HEAD").strip(), "diff": ask("diff", "HEAD")}
    except (OSError, subprocess.SubprocessError):
        return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
