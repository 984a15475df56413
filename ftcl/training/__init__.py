"""The one epoch loop, what it drives, and the checkpoints that it continues from."""

from ftcl.training.checkpoint import Checkpoints, FileCheckpoint, ForeignCheckpoint, load_checkpoint
from ftcl.training.fit import Chosen, EpochRecord, Run, Selection, fit, read_chosen
from ftcl.training.stage import Evaluation, NonFiniteLoss, Stage

__all__ = [
    "Checkpoints",
    "Chosen",
    "EpochRecord",
    "Evaluation",
    "FileCheckpoint",
    "ForeignCheckpoint",
    "NonFiniteLoss",
    "Run",
    "Selection",
    "Stage",
    "fit",
    "load_checkpoint",
    "read_chosen",
]
