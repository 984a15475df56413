"""The implementations of the recurrences besides the readable references, and the choice among them."""

import functools
import importlib
from collections.abc import Iterator

import torch

from ftcl.dp.backends.problem import Solve

# Each module has `solve(problem, wants)`, and `unavailable(device)`, which says why not and what to do, or
# None. A module is imported when it is first asked for, since Triton takes a while.
_MODULES = {
    "native": "ftcl.dp.backends.native",
    "torch": "ftcl.dp.backends.torch_backend",
    "triton": "ftcl.dp.backends.triton_backend",
}
NAMES = ("reference", *_MODULES)


def available_backends(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """Names of the backends that can compute on the device, the default one first, "reference" last."""
    return (*_usable(torch.device(device).type), "reference")


def choose_backend(name: str | None, device: torch.device) -> str:
    """The name, or the default one for None; ValueError for one that does not exist or cannot be used."""
    if name is None:
        return _default(device.type)
    if name not in NAMES:
        raise ValueError(f"backend must be one of {', '.join(sorted(NAMES))}, got {name!r}")
    reason = None if name == "reference" else _unavailable(name, device.type)
    if reason is not None:
        raise ValueError(f"backend {name!r} cannot be used: {reason}")
    return name


def solver(name: str) -> Solve:
    """The `solve` of a fast backend."""
    return importlib.import_module(_MODULES[name]).solve


@functools.cache
def _default(kind: str) -> str:
    return next(_usable(kind))


def _usable(kind: str) -> Iterator[str]:
    # On a CPU Triton only ever interprets, which is for its tests.
    preferred = ("native", "torch", "triton") if kind == "cpu" else ("triton", "torch")
    return (name for name in preferred if _unavailable(name, kind) is None)


def _unavailable(name: str, kind: str) -> str | None:
    return importlib.import_module(_MODULES[name]).unavailable(torch.device(kind))
