"""Machines from AWS: spot, else on demand. The node provider of cluster.yaml."""

from typing import Any, Final

from ray.autoscaler._private.aws.node_provider import AWSNodeProvider
from ray.autoscaler.node_launch_exception import NodeLaunchException

# What EC2 answers when it has no spot machine for us. "Unsupported" is said of a zone that lacks the instance
# type, and that zone may be the last one asked.
_NO_SPOT: Final = {
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "SpotMaxPriceTooLow",
    "Unsupported",
}


class SpotFirst(AWSNodeProvider):
    """Ray's own provider, except that what EC2 does not give on spot, in any zone, is launched on demand.

    Ray gives another node type a turn only when a machine came and then did not start; a launch that is
    refused it repeats every few seconds, with the same node type, for ever. So the market must change within
    the launch. Each launch asks for spot first.
    """

    def create_node(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Launch `count` machines, or as many as there are. Raises NodeLaunchException if there are none."""
        if "InstanceMarketOptions" not in node_config:
            return self._launch(node_config, tags, count)
        try:
            machines = self._launch(node_config, tags, count)
        except NodeLaunchException as refusal:
            if refusal.category not in _NO_SPOT:
                raise
            machines = {}
        if len(machines) < count:
            on_demand = {key: value for key, value in node_config.items() if key != "InstanceMarketOptions"}
            machines |= self._launch(on_demand, tags, count - len(machines))
        return machines

    def _launch(self, node_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        launched: dict[str, Any] = super().create_node(node_config, tags, count)
        return launched
