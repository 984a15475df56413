"""Why an attempt of a trial died, from Ray's error and from what is known of the attempt."""

import re
from dataclasses import dataclass
from typing import Final

from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError, RayActorError

from study.failures import PolicyKind
from study.progress import show_duration

# A worker's own timer starts after the driver's, or just before.
_TIMER_SLACK_S: Final = 1.0
_OUT_OF_MEMORY: Final = "due to the node running low on memory"
_NODE_DIED: Final = "died because its node has died"
_PYTHON_ERROR: Final = re.compile(r"^\s*((?:\w+\.)*\w+(?:Error|Exception)\b.*)$", re.MULTILINE)
_USAGE: Final = re.compile(r"was ([\d.]+GB) used / ([\d.]+GB) limit")


@dataclass(frozen=True)
class Facts:
    """What is known of an attempt beside Ray's error."""

    host: str | None  # None if its worker never began, and Ray does not tell where
    node_alive: bool  # as far as is known
    ran_s: float | None  # None if its worker never began
    limit_s: float | None
    node_draining: bool = False  # it was announced that the node goes


@dataclass(frozen=True)
class Death:
    """Why an attempt died, for the policy and for the reader."""

    kind: PolicyKind
    message: str


def explain(error: BaseException | str, facts: Facts) -> Death:
    """Say why an attempt died; `error` is what Ray raised for it, or its text."""
    text = str(error)
    if isinstance(error, OutOfMemoryError) or _OUT_OF_MEMORY in text:
        return Death("host_memory", _memory_message(text, facts))
    lost_node = isinstance(error, NodeDiedError) or _NODE_DIED in text or not facts.node_alive
    if facts.node_draining or (isinstance(error, RayActorError) and error.preempted):
        return Death("preempted", f"the node {facts.host or 'of its worker'} was taken back, as announced")
    if lost_node:
        return Death("node_lost", f"the node {facts.host or 'of its worker'} was lost{_node_detail(text)}")
    if facts.ran_s is not None and facts.limit_s is not None and facts.ran_s > facts.limit_s - _TIMER_SLACK_S:
        return Death("timeout", f"it ran for more than {show_duration(facts.limit_s)}, its limit")
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return Death("worker_killed", f"its worker{_where(facts)} could not start: {_python_error(text)}")
    if isinstance(error, ActorUnavailableError):
        return Death("worker_killed", f"its worker{_where(facts)} could not be reached any longer")
    return Death("worker_killed", f"its worker process{_where(facts)} {_exit_detail(text)}")


def _memory_message(text: str, facts: Facts) -> str:
    usage = _USAGE.search(text)
    amount = f" ({usage[1]} of {usage[2]} used)" if usage else ""
    return f"killed by Ray because {facts.host or 'its host'} ran out of memory{amount}"


def _node_detail(text: str) -> str:
    found = re.search(r"the actor's node was ([^\n]+)", text)
    return f": {found[1]}" if found else ""


def _where(facts: Facts) -> str:
    return "" if facts.host is None else f" on {facts.host}"


def _exit_detail(text: str) -> str:
    if "ray.kill" in text:
        return "was killed"
    if "exit detail:" not in text:
        return f"died: {_last_line(text)}"
    detail = text.partition("exit detail:")[2].strip()
    if "Traceback" in detail:
        return f"failed: {_python_error(detail)}"
    detail = detail.splitlines()[0]
    if "connection error" in detail:
        # How it ended is not known to Ray: a signal, a crash of native code, os._exit.
        return "vanished: it was killed, perhaps by the system for want of memory, or it crashed"
    return f"died: {detail}"


def _python_error(text: str) -> str:
    errors = _PYTHON_ERROR.findall(text)
    return errors[-1] if errors else _last_line(text)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no reason known"
