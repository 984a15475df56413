"""What `--gpus-per-trial auto` means: measure where the GPUs are, once per study and type of GPU."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import ray
from ray.exceptions import RayError

from study.assembly import make_setup
from study.capacity import Cluster
from study.packing import Packing, Probe, make_probe, measure
from study.plan import LaunchError, Plan
from study.spec import Resources
from study.tune.growth import gpu_types

Say = Callable[[str], None]

_LIMIT_S: Final = 1800.0  # with the start of a node
_SAY_EVERY_S: Final = 60.0


@dataclass(frozen=True)
class Measured:
    """A packing, and the CPUs that go with each GPU of the node where it was measured."""

    packing: Packing
    cpus_per_gpu: float


@dataclass(frozen=True)
class Shares:
    """What the trials of each stage are to hold, and what the manifest says about it."""

    wanted: dict[str, Resources]
    record: dict[str, Any] | None  # None without any GPU


def find_shares(plan: Plan, cluster: Cluster, wanted: Mapping[str, Resources], say: Say) -> Shares:
    """Find how many trials of each stage fit one GPU, by an earlier launch's measurement or a new one."""
    if not cluster.may_have_gpus:
        say("there is no GPU: the trials run on CPUs")
        return Shares({stage: held.model_copy(update={"gpus": 0.0}) for stage, held in wanted.items()}, None)
    kinds = kinds_of_gpus(cluster)
    found = _measured_before(plan, cluster, kinds)
    if not found:
        probe = make_probe(plan, make_setup(plan, [1.0] * len(wanted), concurrency=1))
        found = [measure_on_cluster(probe, kind, say) for kind in kinds or (None,)]
    each = [measured.packing.shares(wanted, measured.cpus_per_gpu) for measured in found]
    shares = {stage: max(of_kind[stage] for of_kind in each) for stage in wanted}
    fit = ", ".join(f"{int(1 / share)} {stage} trials" for stage, share in shares.items())
    for measured in found:
        say(str(measured.packing))
    say(f"so a GPU runs {fit} at once")
    record = {
        "kinds": kinds or kinds_of_gpus(cluster),  # by now a node is there
        "shares": shares,
        "measured": [asdict(measured) for measured in found],
    }
    return Shares(
        {stage: held.model_copy(update={"gpus": shares[stage]}) for stage, held in wanted.items()}, record
    )


def _measured_before(plan: Plan, cluster: Cluster, kinds: list[str]) -> list[Measured]:
    """Return what an earlier launch has measured on the same types of GPUs; nothing if they are not known."""
    # On one's own machine the CPUs are those of this launch's --concurrency.
    local = cluster.cpus / cluster.gpus if plan.options.address is None and cluster.gpus else None
    for launch in reversed(plan.manifest["launches"]):
        packing = launch.get("packing")
        if packing is not None and kinds and packing["kinds"] == kinds:
            return [
                Measured(Packing(**measured["packing"]), local or measured["cpus_per_gpu"])
                for measured in packing["measured"]
            ]
    return []


def kinds_of_gpus(cluster: Cluster) -> list[str]:
    """Return the types of GPUs that live nodes have, or that may come, as Ray names them."""
    live = [gpu_types(node["Resources"]) for node in ray.nodes() if node["Alive"]]
    return sorted({name for names in (*live, *(kind.gpu_types for kind in cluster.kinds)) for name in names})


def measure_on_cluster(
    probe: Probe,
    kind: str | None,
    say: Say,
    measure: Callable[[Probe], Packing] = measure,
) -> Measured:
    """Measure on one whole GPU, of a kind if there are several; an autoscaling cluster brings a node for it.

    Raises LaunchError if the trials cannot be run there, or if nothing comes of it within half an hour.
    """
    resources: Mapping[str, float] = {} if kind is None else {kind: 0.001}
    task = ray.remote(_measure).options(num_cpus=1, num_gpus=1, resources=resources, max_retries=2)
    asked = task.remote(measure, probe)
    started_s = time.monotonic()
    say(f"measuring on a GPU{_of(kind)} how many trials fit")
    while not ray.wait([asked], timeout=_SAY_EVERY_S)[0]:
        waited_s = time.monotonic() - started_s
        if waited_s > _LIMIT_S:
            ray.cancel(asked, force=True)
            raise LaunchError(
                f"no result from a GPU{_of(kind)} after {waited_s / 60:.0f} min; look at `ray status` for "
                "nodes that do not come, or give --gpus-per-trial a number"
            )
        say(f"  still measuring, or waiting for a node with a GPU, after {waited_s / 60:.0f} min")
    try:
        result: Measured | str = ray.get(asked)
    except RayError as error:  # the node is lost again and again, or the trial ends in an error of its own
        why = str(error).strip().splitlines()[-1]
        raise LaunchError(
            f"cannot measure a trial on a GPU{_of(kind)}: {why}; give --gpus-per-trial a number"
        ) from error
    if isinstance(result, str):
        raise LaunchError(result)
    return result


def _measure(measure: Callable[[Probe], Packing], probe: Probe) -> Measured | str:
    """Measure here; a LaunchError comes back as its text."""
    here = ray.get_runtime_context().get_node_id()
    (resources,) = (node["Resources"] for node in ray.nodes() if node["NodeID"] == here)
    try:
        return Measured(measure(probe), resources.get("CPU", 0.0) / resources["GPU"])
    except LaunchError as error:
        return str(error)


def _of(kind: str | None) -> str:
    return "" if kind is None else f" {kind.removeprefix('accelerator_type:')}"
