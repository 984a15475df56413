"""The implementations of the recurrences besides the readable references, and the choice among them."""

import functools
import importlib

import torch

from ftcl.dp.backends.problem import Solve

# In the order of preference; each module has `solve(problem, wants)` and `unavailable(device)`, which says
# why not and what to do, or None. Imported when first asked for, since Triton takes a while.
_MODULES = {
    "torch": "ftcl.dp.backends.torch_backend",
}
NAMES = ("reference", *_MODULES)


def available_backends(device: torch.device | str = "cpu") -> tuple[str, ...]:
    """Names of the backends that can compute on the device, the default one first, "reference" last."""
    kind = torch.device(device).type
    return (*(name for name in _MODULES if _unavailable(name, kind) is None), "reference")


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
    return available_backends(kind)[0]


def _unavailable(name: str, kind: str) -> str | None:
    return importlib.import_module(_MODULES[name]).unavailable(torch.device(kind))
