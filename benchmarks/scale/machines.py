"""The model of nodes: when they come, when they are taken away, how fast they are and what they cost.

Nothing here is measured: the figures are assumptions, and all of them can be changed on the command line.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Market:
    """What the simulated cloud offers."""

    gpus_per_node: int = 8
    startup_s: float = 240.0  # median from the request of a node to its first worker
    startup_spread: float = 0.25  # of the logarithm (normal)
    reclaims_per_hour: float = 0.05  # of one spot node
    notice_s: float = 15.0  # until the driver hears that a node is gone (health checks of 3 s)
    speeds: tuple[float, ...] = (1.0, 1.0, 1.0, 0.7)  # of the kinds of GPU that nodes have, in turn
    dollars_per_gpu_hour: float = 0.50  # spot, of a 24 GB GPU
    dollars_per_head_hour: float = 0.20


@dataclass
class Node:
    """One machine, from its request to its end."""

    number: int
    gpus: int
    speed: float
    requested_s: float
    up_s: float
    reclaimed_s: float  # infinity without reclaim

    @property
    def host(self) -> str:
        """Its name in the records."""
        return f"gpu-node-{self.number}"

    @property
    def ray_id(self) -> str:
        """Its id as long as Ray's."""
        return f"{self.number:056x}"


class Cloud:
    """Gives nodes, as the market has them."""

    def __init__(self, market: Market, seed: int) -> None:
        self._market = market
        self._random = random.Random(f"nodes/{seed}")
        self.nodes: list[Node] = []

    def request(self, gpus: int, now_s: float) -> Node:
        """Ask for a node; it is paid for from here on."""
        market, number = self._market, len(self.nodes)
        up_s = now_s + market.startup_s * self._random.lognormvariate(0.0, market.startup_spread)
        rate = market.reclaims_per_hour / 3600
        lives_s = self._random.expovariate(rate) if rate > 0 else float("inf")
        speed = market.speeds[number % len(market.speeds)]
        self.nodes.append(Node(number, gpus, speed, now_s, up_s, up_s + lives_s))
        return self.nodes[-1]

    def dollars(self, until_s: float) -> float:
        """Return what all nodes and the head have cost until some time."""
        gpu_s = sum(node.gpus * (min(node.reclaimed_s, until_s) - node.requested_s) for node in self.nodes)
        market = self._market
        return (gpu_s * market.dollars_per_gpu_hour + until_s * market.dollars_per_head_hour) / 3600
