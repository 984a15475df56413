"""Start a local Ray, or join a running one, and say what it can run."""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray
from ray._private import worker as ray_worker
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.exceptions import RayError

from study.spec import Resources
from study.tune.reach import ClusterError, reach


@dataclass(frozen=True)
class Cluster:
    """What trials can be given: the sum over nodes, and the largest node's share of each."""

    cpus: float
    gpus: float
    largest_node: Mapping[str, float]

    def grant(self, wanted: Mapping[str, Resources], gpus_per_trial: float | None) -> dict[str, Resources]:
        """Return what each stage's trials will hold.

        GPUs named in the space file are used where the cluster has some; GPUs asked for on the command line
        must be there. Raises ClusterError for a request that no node can ever satisfy.
        """
        granted = {}
        for stage, resources in wanted.items():
            gpus = resources.gpus if gpus_per_trial is None else gpus_per_trial
            if gpus_per_trial is None and self.gpus == 0:
                gpus = 0.0
            if gpus > 1 and gpus != int(gpus):
                raise ClusterError(
                    f"{gpus:g} GPUs for a trial: above 1 they must be whole; ask for {int(gpus)}"
                )
            for name, amount in (("CPU", resources.cpus), ("GPU", gpus)):
                most = self.largest_node.get(name, 0.0)
                if amount > most:
                    raise ClusterError(
                        f"a {stage} trial asks for {amount:g} {name}, but the largest node of the cluster "
                        f"has {most:g}: ask for less (--gpus-per-trial, or `resources` in the space file), "
                        "or add a larger node"
                    )
            granted[stage] = resources.model_copy(update={"gpus": gpus})
        return granted

    def slots(self, granted: Iterable[Resources]) -> int:
        """Return how many trials of the hungriest stage fit at once."""
        return max(1, min(self._fit(resources) for resources in granted))

    def _fit(self, resources: Resources) -> int:
        by_cpu = int(self.cpus / resources.cpus)
        return by_cpu if resources.gpus == 0 else min(by_cpu, int(self.gpus / resources.gpus))


@contextmanager
def connect(address: str | None, *, local_cpus: float) -> Iterator[Cluster]:
    """Yield a cluster: the one at `address`, or a local one of `local_cpus` slots that ends with the block.

    `prepare_environment` must have run before Ray was imported. Raises ClusterError if Ray cannot be reached.
    """
    try:
        if address is None:
            ray.init(
                address="local",  # a new one, even if another one runs on this machine
                num_cpus=max(1, int(local_cpus)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        else:
            answer = reach(address)
            if answer.needs_token:
                os.environ["RAY_AUTH_MODE"] = "token"
                Config.initialize("")  # read the environment again
            ray.init(address=answer.address, log_to_driver=False, logging_level=logging.ERROR)
    except ClusterError:
        raise
    except (OSError, RuntimeError, ValueError, RayError) as error:
        where = "a local Ray" if address is None else f"the Ray cluster at {address}"
        raise ClusterError(f"cannot reach {where}: {error}") from error
    # Ray prints pages about a death; the study says in a line what it means.
    ray_worker._worker_logs_enabled = False
    try:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        total = ray.cluster_resources()
        yield Cluster(
            cpus=total.get("CPU", 0.0),
            gpus=total.get("GPU", 0.0),
            largest_node={name: max(node.get(name, 0.0) for node in nodes) for name in ("CPU", "GPU")},
        )
    finally:
        ray.shutdown()
