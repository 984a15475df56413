"""From an error that ended an attempt to its kind and a message for the user."""

import errno
import traceback
from pathlib import Path
from typing import Final

import torch

from ftcl.data import DataError
from ftcl.training.stage import NonFiniteLoss
from study.failures import PolicyKind
from study.staging import NodeUnfit
from study.store import DISK_FULL, StorageError, StoreError

_HOST_MEMORY: Final = ("DefaultCPUAllocator", "can't allocate memory", "not enough memory")
_GPU_MEMORY: Final = ("CUDA out of memory", "CUBLAS_STATUS_ALLOC_FAILED")


def diagnose(error: Exception) -> tuple[PolicyKind, str]:
    """Return what kind of failure an error is, and what the records say about it."""
    words = " ".join(str(error).split())
    match error:
        case NonFiniteLoss():
            return "non_finite", words
        case NodeUnfit():
            return "node_unfit", words
        case DataError():
            return "bad_data", words
        case StorageError() | StoreError():
            return "storage", words
        case torch.OutOfMemoryError():
            return "gpu_memory", words
        case MemoryError():
            return "host_memory", words or "the process could not get more memory"
        case OSError() if error.errno in DISK_FULL:
            place = f"{error.filename}: " if error.filename else ""
            return "disk_full", f"{place}{error.strerror}"
        case OSError() if error.errno == errno.ENOMEM:
            return "host_memory", words
        case RuntimeError() if any(part in words for part in _GPU_MEMORY):
            return "gpu_memory", words
        case RuntimeError() if any(part in words for part in _HOST_MEMORY):
            return "host_memory", words
    last = traceback.extract_tb(error.__traceback__)[-1]
    return "code_error", f"{type(error).__name__}: {words} ({Path(last.filename).name}:{last.lineno})"
