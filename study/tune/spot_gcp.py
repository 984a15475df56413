"""Machines from Google Cloud: spot, else on demand. The node provider of deploy/gcp.yaml."""

from typing import Any, Final

from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider

# What Compute Engine answers when it has no spot machine for us, at once or as the end of a launch.
_NO_SPOT: Final = ("ZONE_RESOURCE_POOL_EXHAUSTED", "STOCKOUT", "QUOTA_EXCEEDED", "quotaExceeded")


class SpotFirst(GCPNodeProvider):
    """Ray's own provider, except that a machine that cannot be had on spot is launched on demand.

    `study.tune.spot` says why. Disk types may be given by name: their addresses hold the zone.
    """

    def create_node(self, base_config: dict[str, Any], tags: dict[str, str], count: int) -> dict[str, Any]:
        """Launch machines one by one: of several that are launched at once, Ray says only that one failed."""
        config = self._with_disk_addresses(base_config)
        machines: dict[str, Any] = {}
        for _ in range(count):
            machines |= self._create_one(config, tags)
        return machines

    def _create_one(self, config: dict[str, Any], tags: dict[str, str]) -> dict[str, Any]:
        made: dict[str, Any]
        try:
            made = super().create_node(config, tags, 1)
        except Exception as refusal:  # Ray raises Exception itself
            scheduling = config.get("scheduling", {})
            if scheduling.get("provisioningModel") != "SPOT" or not any(c in str(refusal) for c in _NO_SPOT):
                raise
            on_demand = {"onHostMaintenance": scheduling.get("onHostMaintenance", "TERMINATE")}
            made = super().create_node(config | {"scheduling": on_demand}, tags, 1)
        return made

    def _with_disk_addresses(self, config: dict[str, Any]) -> dict[str, Any]:
        zone = self.provider_config["availability_zone"]
        disks = []
        for disk in config.get("disks", []):
            parameters = dict(disk.get("initializeParams", {}))
            if "/" not in parameters.get("diskType", "/"):
                parameters["diskType"] = f"zones/{zone}/diskTypes/{parameters['diskType']}"
            disks.append(disk | {"initializeParams": parameters})
        return config | {"disks": disks}
