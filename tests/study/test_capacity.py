"""How many trials nodes hold, those that live and those that may come; and what is asked in vain."""

import pytest

from study.capacity import Cluster, Kind, Node
from study.plan import LaunchError
from study.spec import Resources

HEAD = Node(0, 0)
GPU_NODE = Kind("gpu", Node(4, 1), 8)


def held(cpus: int = 1, gpus: float = 0.0) -> Resources:
    return Resources(cpus=cpus, gpus=gpus)


@pytest.mark.parametrize(
    ("node", "resources", "trials"),
    [
        (Node(4, 0), held(3), 1),
        (Node(4, 0), held(2), 2),
        (Node(0, 0), held(1), 0),
        (Node(8, 1), held(1, 0.4), 2),
        (Node(8, 2), held(1, 0.4), 4),  # not 5: none straddles two GPUs
        (Node(8, 1), held(1, 0.25), 4),
        (Node(8, 1), held(1, 1 / 3), 3),
        (Node(64, 1), held(1, 0.0333), 30),
        (Node(2, 1), held(1, 0.25), 2),
        (Node(8, 4), held(1, 2), 2),
        (Node(8, 3), held(1, 2), 1),
        (Node(8, 0), held(1, 0.5), 0),
    ],
)
def test_trials_of_a_node(node: Node, resources: Resources, trials: int) -> None:
    assert node.holds(resources) == trials


def test_nodes_are_filled_one_by_one() -> None:
    """Four nodes of 4 CPUs hold four trials of 3 CPUs, not five."""
    assert Cluster((Node(4, 0),) * 4).slots([held(3)]) == 4


def test_nodes_that_may_come_count() -> None:
    cluster = Cluster((HEAD,), (GPU_NODE, Kind("large", Node(16, 4), 2)), more=5)
    assert cluster.slots([held(1, 0.5)]) == 2 * 8 + 3 * 2
    assert cluster.slots([held(1)]) == 2 * 16 + 3 * 4


def test_as_many_are_handed_out_as_of_the_most_modest_stage() -> None:
    cluster = Cluster((HEAD,), (GPU_NODE,), more=2)
    assert cluster.slots([held(1, 1), held(1, 0.25)]) == 8


def test_kinds_of_unknown_size_count_one_trial_each() -> None:
    assert Cluster((Node(4, 0),), (Kind("worker", None, 3),), more=3).slots([held(2)]) == 2 + 3


@pytest.mark.parametrize(
    ("cluster", "gpus"),
    [
        (Cluster((Node(4, 0),)), 0.0),
        (Cluster((HEAD, Node(4, 1))), 0.25),
        (Cluster((HEAD,), (GPU_NODE,), more=8), 0.25),
        (Cluster((Node(4, 0),), (Kind("cpu", Node(8, 0), 2),), more=2), 0.0),
    ],
    ids=["none", "live", "may come", "none may come"],
)
def test_gpus_of_the_space_file_are_used_where_there_may_be_some(cluster: Cluster, gpus: float) -> None:
    granted = cluster.grant({"finetune": held(1, 0.25)}, None)
    assert granted["finetune"].gpus == gpus


@pytest.mark.situation(
    "environment",
    "a trial asks for more than any node of an autoscaling cluster has, or could have",
    "refused at once, with what is asked, the largest node and the nodes that may come",
)
def test_impossible_requests_are_refused_with_the_numbers() -> None:
    cluster = Cluster((HEAD, Node(2, 0)), (GPU_NODE, Kind("cpu", Node(16, 0), 4)), more=10)
    with pytest.raises(LaunchError) as told:
        cluster.grant({"finetune": held(8, 1)}, None)  # no node has both
    for words in (
        "a finetune trial asks for 8 CPU and 1 GPU",
        "the largest node has 2 CPU and 0 GPU",
        "at most 10",
        "8 gpu (4 CPU and 1 GPU)",
        "4 cpu (16 CPU and 0 GPU)",
    ):
        assert words in str(told.value)
    with pytest.raises(LaunchError, match="no node of the cluster runs trials now: ask for"):
        Cluster((HEAD,)).grant({"finetune": held(1)}, None)


def test_gpus_of_the_command_line_must_be_there() -> None:
    with pytest.raises(LaunchError, match=r"asks for 1 CPU and 0.5 GPU"):
        Cluster((Node(4, 0),)).grant({"finetune": held(1)}, 0.5)
    with pytest.raises(LaunchError, match="above 1 they must be whole; ask for 1"):
        Cluster((Node(4, 4),)).grant({"finetune": held(1)}, 1.5)
