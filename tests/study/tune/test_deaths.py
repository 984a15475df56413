"""Errors as Ray raises them (their texts were taken from Ray 2.60), and what they are called."""

import pytest
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    OutOfMemoryError,
    RayActorError,
)

from study.failures import FailureKind
from study.tune.deaths import Death, Facts, explain

HERE = Facts(host="box", node_alive=True, ran_s=10.0, limit_s=None)
_DIED = """\
The actor died unexpectedly before finishing this task.
\tclass_name: ImplicitFunc
\tactor_id: 44fc229de082df4e81a09f7f01000000
\tpid: 23198
\tip: 192.0.2.2
"""
_EXITED = _DIED + (
    "The actor is dead because its worker process has died. "
    "Worker exit type: SYSTEM_ERROR Worker exit detail: "
)
VANISHED = _EXITED + (
    "Worker unexpectedly exits with a connection error code 2. End of file. Some common causes include: "
    "(1) the process was killed by the OOM killer due to high memory usage, (2) ray stop --force was called."
)
TERMINATED = _EXITED + (
    "Worker exits unexpectedly. Worker exits with an exit code 1. The process receives a SIGTERM."
)
NODE_LOST = _DIED + (
    "The actor died because its node has died. Node Id: 64eedc0857bf4d0bf6cf8f7712b1432d727a630b02528089\n"
    "\tthe actor's node was terminated unexpectedly: health check failed due to missing too many heartbeats"
)
NO_MEMORY = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 192.0.2.2, "
    "ID: cb2c) was 2.46GB used / 23.54GB limit (0.104685)\nOOM kill reason: Memory usage exceeded threshold"
)
NO_MODULE = _EXITED + (
    "Worker exits unexpectedly. Worker exits with an exit code None. Traceback (most recent call last):\n"
    '  File "function_manager.py", line 1, in load\n'
    "ModuleNotFoundError: No module named 'seglearn'\n\n"
    "An unexpected internal error occurred while the worker was executing a task."
)


@pytest.mark.parametrize(
    ("error", "facts", "kind", "message"),
    [
        pytest.param(
            RayActorError(error_msg=VANISHED),
            HERE,
            "worker_killed",
            "its worker process on box vanished: it was killed, perhaps by the system for want of memory, "
            "or it crashed",
            id="vanished",
        ),
        pytest.param(
            VANISHED,
            Facts("box", True, 3599.5, 3600.0),
            "timeout",
            "it ran for more than 1 h 00 min, its limit",
            id="time out",
        ),
        pytest.param(
            VANISHED,
            Facts("box", False, 10.0, 3600.0),
            "node_lost",
            "the node box was lost",
            id="node is gone",
        ),
        pytest.param(
            RayActorError(error_msg=NODE_LOST),
            Facts("box", False, 3600.0, 3600.0),
            "node_lost",
            "the node box was lost: terminated unexpectedly: health check failed due to missing too many "
            "heartbeats",
            id="node died",
        ),
        pytest.param(
            NodeDiedError("the node died"),
            Facts(None, True, None, None),
            "node_lost",
            "the node of its worker was lost",
            id="node died before it began",
        ),
        pytest.param(
            RayActorError(preempted=True),
            HERE,
            "preempted",
            "the node box was taken back, as announced",
            id="preempted",
        ),
        pytest.param(
            VANISHED,
            Facts("box", True, 10.0, None, node_draining=True),
            "preempted",
            "the node box was taken back, as announced",
            id="vanished with a node that was announced to go",
        ),
        pytest.param(
            OutOfMemoryError(NO_MEMORY),
            HERE,
            "host_memory",
            "killed by Ray because box ran out of memory (2.46GB of 23.54GB used)",
            id="out of memory",
        ),
        pytest.param(
            NO_MEMORY,
            Facts("box", True, 3601.0, 3600.0),
            "host_memory",
            "killed by Ray because box ran out of memory (2.46GB of 23.54GB used)",
            id="out of memory, as text",
        ),
        pytest.param(
            RayActorError(error_msg=TERMINATED),
            HERE,
            "worker_killed",
            "its worker process on box died: Worker exits unexpectedly. Worker exits with an exit code 1. "
            "The process receives a SIGTERM.",
            id="terminated",
        ),
        pytest.param(
            RayActorError(error_msg=NO_MODULE),
            Facts(None, True, None, 3600.0),
            "worker_killed",
            "its worker process failed: ModuleNotFoundError: No module named 'seglearn'",
            id="no module",
        ),
        pytest.param(
            RayActorError(error_msg="creation task, ray::x()\nOSError: no room\n", actor_init_failed=True),
            HERE,
            "worker_killed",
            "its worker on box could not start: OSError: no room",
            id="could not start",
        ),
        pytest.param(
            ActorUnavailableError("RpcError: connection reset", None),
            HERE,
            "worker_killed",
            "its worker on box could not be reached any longer",
            id="unreachable",
        ),
        pytest.param(
            _DIED + "The actor is dead because it was killed by `ray.kill`.",
            HERE,
            "worker_killed",
            "its worker process on box was killed",
            id="ray.kill",
        ),
        pytest.param("", HERE, "worker_killed", "its worker process on box died: no reason known", id="mute"),
    ],
)
def test_every_death_gets_a_kind_and_a_sentence(
    error: BaseException | str, facts: Facts, kind: FailureKind, message: str
) -> None:
    assert explain(error, facts) == Death(kind, message)
