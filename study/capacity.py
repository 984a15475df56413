"""What trials can be given on a cluster: on the nodes that live, and on those that may be started."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from study.plan import LaunchError
from study.spec import Resources

# Ray counts in ten-thousandths.
_UNITS: Final = 10_000


@dataclass(frozen=True)
class Node:
    """What one machine has for trials."""

    cpus: float
    gpus: float

    def holds(self, resources: Resources) -> int:
        """Return how many trials fit on it; a share of a GPU is always one of a single GPU."""
        by_cpu = _parts(self.cpus, resources.cpus)
        if resources.gpus == 0:
            return by_cpu
        if resources.gpus < 1:
            return min(by_cpu, int(self.gpus) * _parts(1.0, resources.gpus))
        return min(by_cpu, _parts(self.gpus, resources.gpus))

    def __str__(self) -> str:
        return f"{self.cpus:g} CPU and {self.gpus:g} GPU"


@dataclass(frozen=True)
class Kind:
    """A kind of node that an autoscaling cluster starts when it is needed."""

    name: str
    node: Node | None  # None: not known before one has come
    more: int  # how many may come beside those that are there
    gpu_types: tuple[str, ...] = ()  # as Ray names them, if that is known before one has come

    def holds(self, resources: Resources) -> int:
        """Return how many trials fit on a node of this kind; one, if that is not known."""
        return 1 if self.node is None else self.node.holds(resources)

    def __str__(self) -> str:
        return f"{self.more} {self.name} ({self.node or 'size not known yet'})"


@dataclass(frozen=True)
class Cluster:
    """The nodes that live, and those that may come: `more` at the most, of all kinds together."""

    live: tuple[Node, ...]
    kinds: tuple[Kind, ...] = ()
    more: int = 0

    @property
    def cpus(self) -> float:
        """The CPUs of the nodes that live."""
        return sum(node.cpus for node in self.live)

    @property
    def gpus(self) -> float:
        """The GPUs of the nodes that live."""
        return sum(node.gpus for node in self.live)

    @property
    def may_have_gpus(self) -> bool:
        """Whether any node has a GPU, or one that may come has, or might have."""
        return self.gpus > 0 or any(kind.node is None or kind.node.gpus > 0 for kind in self.kinds)

    def grant(self, wanted: Mapping[str, Resources], gpus_per_trial: float | None) -> dict[str, Resources]:
        """Return what each stage's trials will hold.

        GPUs named in the space file are used where the cluster has some, or may get some; GPUs asked for on
        the command line must be there, or may come. Raises LaunchError for what no node can satisfy.
        """
        granted = {}
        for stage, resources in wanted.items():
            gpus = resources.gpus if gpus_per_trial is None else gpus_per_trial
            if gpus_per_trial is None and not self.may_have_gpus:
                gpus = 0.0
            if gpus > 1 and gpus != int(gpus):
                raise LaunchError(
                    f"{gpus:g} GPUs for a trial: above 1 they must be whole; ask for {int(gpus)}"
                )
            granted[stage] = resources.model_copy(update={"gpus": gpus})
            if not self._can_hold(granted[stage]):
                raise LaunchError(
                    f"a {stage} trial asks for {Node(resources.cpus, gpus)}, but {self._describe()}: ask for "
                    "less (--gpus-per-trial, or `resources` in the space file), or add a larger node"
                )
        return granted

    def slots(self, granted: Iterable[Resources]) -> int:
        """Return how many trials of the most modest stage fit at once, when all nodes have come.

        As many are handed out: of a hungrier stage some wait for their share, and ask for nodes by that.
        """
        return max(1, *(self._fit(resources) for resources in granted))

    def _can_hold(self, resources: Resources) -> bool:
        return any(node.holds(resources) for node in self.live) or any(
            kind.holds(resources) for kind in self.kinds
        )

    def _fit(self, resources: Resources) -> int:
        fit, left = sum(node.holds(resources) for node in self.live), self.more
        for kind in sorted(self.kinds, key=lambda kind: kind.holds(resources), reverse=True):
            count = min(kind.more, left)
            fit += count * kind.holds(resources)
            left -= count
        return fit

    def _describe(self) -> str:
        live = [node for node in self.live if node.cpus > 0]
        largest = max(live, key=lambda node: (node.gpus, node.cpus), default=None)
        words = (
            "no node of the cluster runs trials now" if largest is None else f"the largest node has {largest}"
        )
        if self.kinds:
            words += f", and of those that may come, at most {self.more}, there are " + ", ".join(
                map(str, self.kinds)
            )
        return words


def _parts(whole: float, part: float) -> int:
    """Return how often a part fits into a whole, as Ray counts."""
    return round(whole * _UNITS) // max(1, round(part * _UNITS))
