"""`--gpus-per-trial auto`: when it measures, when it remembers, and what trials then hold."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import MagicMock

import pytest

from study.capacity import Cluster, Kind, Node
from study.packing import Packing
from study.plan import LaunchError, Plan
from study.spec import Resources

GB = 10**9
WANTED = {"pretrain": Resources(cpus=1, gpus=1), "finetune": Resources(cpus=1, gpus=0.25)}
L4 = Packing("L4", 24 * GB, 23 * GB, {"pretrain": 10 * GB, "finetune": 3 * GB})
T4 = Packing("T4", 16 * GB, 15 * GB, {"pretrain": 10 * GB, "finetune": 3 * GB})
GPU_CLUSTER = Cluster((Node(0, 0), Node(8, 1)))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The types of GPUs that are measured from now on; live nodes have an L4 unless a test says otherwise."""
    from study.tune import probe

    seen: list[str | None] = []

    def measure(asked: Any, kind: str | None, say: Any) -> probe.Measured:
        seen.append(kind)
        return probe.Measured(T4 if kind == "accelerator_type:T4" else L4, 8.0)

    monkeypatch.setattr(probe, "measure_on_cluster", measure)
    monkeypatch.setattr(probe, "kinds_of_gpus", lambda cluster: ["accelerator_type:L4"])
    return seen


@pytest.fixture
def plan(make_small_plan: Callable[..., Plan]) -> Plan:
    return make_small_plan()


def shares(plan: Plan, cluster: Cluster = GPU_CLUSTER) -> tuple[dict[str, float], Any, list[str]]:
    from study.tune.probe import find_shares

    said: list[str] = []
    found = find_shares(plan, cluster, WANTED, said.append)
    return {stage: held.gpus for stage, held in found.wanted.items()}, found.record, said


def continued(plan: Plan, record: Any) -> Plan:
    return replace(plan, manifest={**plan.manifest, "launches": [{"packing": record}, {"packing": None}]})


def test_shares_are_what_fits(plan: Plan, measured: list[str | None]) -> None:
    found, record, said = shares(plan)
    assert found == {"pretrain": 0.5, "finetune": 0.1428}
    assert record["shares"] == found
    assert record["measured"][0]["packing"]["stages"] == {"pretrain": 10 * GB, "finetune": 3 * GB}
    assert "one finetune trial takes 3.0 GB" in said[-2]
    assert said[-1] == "so a GPU runs 2 pretrain trials, 7 finetune trials at once"


def test_a_study_is_measured_once_on_a_type_of_gpu(
    plan: Plan, measured: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from study.tune import probe

    first, record, _ = shares(plan)
    assert shares(continued(plan, record))[:2] == (first, record)
    assert measured == ["accelerator_type:L4"]
    types = ["accelerator_type:L4", "accelerator_type:T4"]
    monkeypatch.setattr(probe, "kinds_of_gpus", lambda cluster: types)
    both, _, _ = shares(continued(plan, record))
    assert measured[1:] == ["accelerator_type:L4", "accelerator_type:T4"]
    assert both == {"pretrain": 1.0, "finetune": 0.25}  # as the smaller one allows


def test_another_concurrency_on_ones_own_machine_counts(plan: Plan, measured: list[str | None]) -> None:
    _, record, _ = shares(plan, Cluster((Node(8, 1),)))
    found, _, _ = shares(continued(plan, record), Cluster((Node(2, 1),)))
    assert found == {"pretrain": 0.5, "finetune": 0.5}
    assert measured == ["accelerator_type:L4"]


def test_nodes_that_are_still_to_come_are_measured(
    plan: Plan, measured: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    from study.tune import probe

    monkeypatch.setattr(probe, "kinds_of_gpus", lambda cluster: [])
    cluster = Cluster((Node(0, 0),), (Kind("gpu", Node(8, 1), 2),), more=2)
    _, record, _ = shares(plan, cluster)
    assert measured == [None]
    shares(continued(plan, record), cluster)
    assert measured == [None, None]  # nobody knows whether it is the same type


def test_a_measurement_that_is_lost_ends_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.exceptions import NodeDiedError

    from study.tune import probe

    def get(asked: Any) -> None:
        raise NodeDiedError("the node was taken back")

    monkeypatch.setattr(probe.ray, "remote", lambda function: MagicMock())
    monkeypatch.setattr(probe.ray, "wait", lambda asked, timeout: (asked, []))
    monkeypatch.setattr(probe.ray, "get", get)
    with pytest.raises(LaunchError, match=r"on a GPU L4: the node was taken back; give --gpus-per-trial"):
        probe.measure_on_cluster(MagicMock(), "accelerator_type:L4", print)


def test_without_a_gpu_nothing_is_measured(plan: Plan, measured: list[str | None]) -> None:
    found, record, said = shares(plan, Cluster((Node(8, 0),)))
    assert (found, record, measured) == ({"pretrain": 0.0, "finetune": 0.0}, None, [])
    assert said == ["there is no GPU: the trials run on CPUs"]
