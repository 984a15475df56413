"""The one epoch loop, what it drives, and the checkpoints that it continues from."""

from ftcl.training.checkpoint import load_checkpoint, save_checkpoint
from ftcl.training.fit import Chosen, EpochRecord, Selection, chosen, fit
from ftcl.training.stage import Evaluation, NonFiniteLoss, Stage

__all__ = [
    "Chosen",
    "EpochRecord",
    "Evaluation",
    "NonFiniteLoss",
    "Selection",
    "Stage",
    "chosen",
    "fit",
    "load_checkpoint",
    "save_checkpoint",
]
