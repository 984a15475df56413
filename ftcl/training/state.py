"""The state that the stages share: network, optimiser, generators, and the identity of their run."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ftcl.training.stage import NonFiniteLoss


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A network in training. `identity` is what a checkpoint must agree on, flat names to plain values."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    identity: Mapping[str, Any]

    def capture(self, epoch: int) -> dict[str, Any]:
        """Copies of everything that training changes, with generator states as tensors."""
        return {
            "epoch": epoch,
            "identity": dict(self.identity),
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> int:
        """Put a captured state in place and return its epoch; ValueError says how it differs."""
        require_same_identity(state["identity"], self.identity)
        load_weights(self.network, state["network"], "the checkpoint")
        self.optimizer.load_state_dict(state["optimizer"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name])
        return int(state["epoch"])

    def export(self) -> dict[str, Tensor]:
        """The weights, copied to the CPU."""
        return {
            name: value.detach().to("cpu", copy=True) for name, value in self.network.state_dict().items()
        }


def run_identity(
    stage: str, flat_config: Mapping[str, Any], fingerprint: str, seed: int, init: Mapping[str, Tensor] | None
) -> dict[str, Any]:
    """What decides every number of a stage. The wanted epochs do not: a run may be continued for more."""
    digest = hashlib.sha256()
    for name, value in sorted((init or {}).items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    config = {name: value for name, value in flat_config.items() if name != f"{stage}.epochs"}
    return {
        "stage": stage,
        "seed": seed,
        "data": fingerprint,
        "initial weights": digest.hexdigest()[:16] if init is not None else "drawn from the seed",
        **config,
    }


def require_same_identity(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Raise ValueError that lists every value in which a checkpoint's run differs from the present one."""
    differing = [
        f"{name} was {found.get(name)!r} and is now {wanted.get(name)!r}"
        for name in {**found, **wanted}
        if found.get(name) != wanted.get(name)
    ]
    if differing:
        raise ValueError("; ".join(differing))


def load_weights(
    network: nn.Module,
    weights: Mapping[str, Tensor],
    source: str,
    advise: Callable[[str, tuple[int, ...], tuple[int, ...]], str] = lambda key, found, wanted: "",
) -> None:
    """Copy `weights` into the network; ValueError names a key that is missing, unknown or misshapen.

    `advise(key, found shape, wanted shape)` may add to the last what the user should change.
    """
    own = network.state_dict()
    for key, value in own.items():
        if key not in weights:
            raise ValueError(f"{source} lacks the weight {key!r}")
        if weights[key].shape != value.shape:
            found, wanted = tuple(weights[key].shape), tuple(value.shape)
            raise ValueError(
                f"{source} has {key!r} of shape {found}, the network expects {wanted}"
                f"{advise(key, found, wanted)}"
            )
    unknown = [key for key in weights if key not in own]
    if unknown:
        raise ValueError(f"{source} has the weight {unknown[0]!r}, which the network does not have")
    network.load_state_dict(dict(weights))


def adam(parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float) -> torch.optim.Adam:
    """Adam with L2 penalty, all parameters in one fused step where the device has it."""
    parameters = list(parameters)
    fused = parameters[0].device.type in ("cpu", "cuda")
    return torch.optim.Adam(parameters, lr=learning_rate, weight_decay=weight_decay, fused=fused or None)


class LossMeter:
    """Means of loss terms over the steps of an epoch, read from the device once at its end."""

    def __init__(self, terms: tuple[str, ...]) -> None:
        self._terms = terms
        self._steps: list[Tensor] = []

    def add(self, values: Iterable[Tensor]) -> None:
        """Add one step's scalars, in the order of the terms."""
        self._steps.append(torch.stack([value.detach() for value in values]))

    def means(self, epoch: int) -> dict[str, float]:
        """Mean of every term; NonFiniteLoss names `epoch` and the first term that was not finite."""
        values_SK = torch.stack(self._steps).cpu().double()
        for row in (~values_SK.isfinite()).tolist():
            if any(row):
                raise NonFiniteLoss(epoch, self._terms[row.index(True)])
        return dict(zip(self._terms, values_SK.mean(0).tolist(), strict=True))
