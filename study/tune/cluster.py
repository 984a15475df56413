"""Start a local Ray, or join a running one, and say what it can run."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray._private import worker as ray_worker
from ray._raylet import Config  # type: ignore[attr-defined]
from ray.exceptions import RayError

from study.capacity import Cluster
from study.tune.growth import survey
from study.tune.reach import ClusterError, reach


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
        yield survey()
    finally:
        ray.shutdown()
