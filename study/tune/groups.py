"""Tune's placement groups, without the leak of Ray's that they run into.

Ray loses for good what a group reserves that is removed while it is being placed, some 6 ms in 2.60
(ray-project/ray#64693): a slot, or a GPU, that no trial gets again, on a node that never looks idle. Tune
cancels its request for a slot as soon as another trial leaves one, which may be at once.
"""

import time
from typing import Final

import ray
from ray import ObjectRef
from ray.air.execution import PlacementGroupResourceManager, ResourceRequest
from ray.util.placement_group import PlacementGroup, remove_placement_group

_SETTLES_S: Final = 0.25  # placed by then, or waiting for room; none was lost after 8 ms


class SettledGroups(PlacementGroupResourceManager):
    """Removes a group that is not wanted any more when it has been placed, or has been found no room."""

    def __init__(self, update_interval_s: float = 0.1) -> None:
        super().__init__(update_interval_s)
        self._unwanted: list[tuple[float, PlacementGroup]] = []  # since when

    def get_resource_futures(self) -> list[ObjectRef]:
        """Return what Tune waits for in each of its turns; the moment to tidy up."""
        self._remove_settled(time.monotonic() - _SETTLES_S)
        return super().get_resource_futures()

    def cancel_resource_request(self, resource_request: ResourceRequest) -> None:
        """Forget a request at once, and remove its group later."""
        staged = self._request_to_staged_pgs[resource_request]
        if not staged:
            super().cancel_resource_request(resource_request)  # it has been placed
            return
        group = staged.pop()
        future = self._pg_to_staging_future.pop(group)
        del self._staging_future_to_pg[future], self._pg_to_request[group]
        ray.cancel(future)
        self._unwanted.append((time.monotonic(), group))

    def clear(self) -> None:
        """Remove all groups."""
        if ray.is_initialized() and (self._unwanted or any(self._request_to_staged_pgs.values())):
            time.sleep(_SETTLES_S)
            self._remove_settled(time.monotonic())
        super().clear()

    def _remove_settled(self, before_s: float) -> None:
        settled = [group for since_s, group in self._unwanted if since_s <= before_s]
        self._unwanted = [each for each in self._unwanted if each[0] > before_s]
        for group in settled:
            remove_placement_group(group)
