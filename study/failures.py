"""What can end an attempt of a trial before its time, and what is done about it."""

from dataclasses import dataclass
from typing import Final, Literal

PolicyKind = Literal[
    "host_memory",
    "gpu_memory",
    "non_finite",
    "node_lost",
    "node_unfit",
    "preempted",
    "worker_killed",
    "bad_data",
    "code_error",
    "disk_full",
    "storage",
    "timeout",
]
FailureKind = Literal[PolicyKind, "cancelled", "driver_lost", "pretrain_failed"]
"""Those without a policy: `cancelled` and `driver_lost` go on with the next launch, `pretrain_failed` follows
its cause."""

Action = Literal["retry", "elsewhere", "never", "stop"]
"""Again from its last checkpoint; the same on another node if there is one; the trial has failed; the study
stops cleanly, and the trial goes on with the next launch."""


@dataclass(frozen=True)
class Policy:
    """What is done after a failure; of retry and elsewhere, `times` in a row without a new epoch."""

    action: Action
    times: int = 0


@dataclass(frozen=True)
class Failure:
    """How one attempt of a trial ended before the trial did."""

    kind: FailureKind
    message: str
    attempt: int  # from 1
    epoch: int  # the last one on record at that moment
    lost_s: float  # wall seconds since that epoch was reported: the work that is lost, at most
    action: Action  # what was done
    host: str | None
    at: str  # UTC, ISO 8601


DEFAULT_POLICIES: Final[dict[PolicyKind, Policy]] = {
    "host_memory": Policy("elsewhere", 2),
    "gpu_memory": Policy("elsewhere", 1),
    "non_finite": Policy("never"),
    "node_lost": Policy("elsewhere", 5),
    "node_unfit": Policy("elsewhere", 3),
    "preempted": Policy("elsewhere", 100),
    "worker_killed": Policy("retry", 3),
    "bad_data": Policy("never"),
    "code_error": Policy("never"),
    "disk_full": Policy("stop"),
    "storage": Policy("retry", 3),
    "timeout": Policy("retry", 1),
}
"""A deterministic error is not retried; what another attempt may escape, is."""

FIXES: Final[dict[FailureKind, str]] = {
    "host_memory": "raise resources.<stage>.memory_gb, or lower --concurrency",
    "gpu_memory": "give a trial a larger share with --gpus-per-trial, or lower its batch size",
    "non_finite": "lower the learning rate, or the upper end of the searched weights",
    "node_lost": "nothing, unless it repeats: then look at the node's own logs",
    "node_unfit": "do what the message says on the node that it names, then --retry-failed",
    "preempted": "nothing: the cloud takes spot machines back, and the trial goes on on another one",
    "worker_killed": "look for who kills processes on the host (dmesg, job limits), then --retry-failed",
    "bad_data": "restore the file that the message names, then --retry-failed",
    "code_error": "mend the code, then --retry-failed",
    "disk_full": "free the space that the message names; the same command continues",
    "storage": "check that the storage answers and that its keys are valid, then --retry-failed",
    "timeout": "raise resources.<stage>.max_hours, or look where the trial hung",
    "cancelled": "the same command continues",
    "driver_lost": "nothing: the trial went on from its last checkpoint",
    "pretrain_failed": "mend the cause of the pretraining's failure, then --retry-failed",
}
