"""Weights from files: checkpoints of this project, and those that the authors released."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ftcl.recipes.recipe import SavedModel
from ftcl.training.checkpoint import load_checkpoint
from ftcl.training.fit import read_chosen


def read_model(path: Path) -> SavedModel:
    """A run's checkpoint: its chosen epoch and its settings; or weights as {"model_state_dict": ...}.

    The latter is how the authors of ACM-Net and FTCL released theirs, without settings. Their ActivityNet
    network has a dropout layer before the first convolution, which numbers that one 1 instead of 0. Raises
    ValueError for other files.
    """
    content = load_checkpoint(path)
    if "model_state_dict" not in content:
        weights = read_chosen(path).weights
        settings = {name: value for name, value in content["stage"]["identity"].items() if "." in name}
        return SavedModel(weights, settings)
    released = content["model_state_dict"]
    if not isinstance(released, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in released.items()
    ):
        raise ValueError(f"{path}: model_state_dict must map names to tensors")
    return SavedModel(
        {
            key.replace("feature_embedding.1.", "feature_embedding.0."): value
            for key, value in released.items()
        },
        None,
    )


def advise_on_shape(key: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """What to change when a weight of ACM-Net has another shape than its network expects."""
    if len(found) != len(wanted) or len(found) == 1:
        return "; it is no checkpoint of this network"
    layer = key.split(".", 1)[0]
    if layer == "feature_embedding" and found[1] != wanted[1]:
        return f"; it was trained on features of {found[1]} channels, choose such data instead of {wanted[1]}"
    if layer == "snippet_cls" and found[1:] == wanted[1:]:
        return f"; it was trained on {found[0] - 1} classes, choose such data instead of {wanted[0] - 1}"
    if layer == "feature_trans" and found[1:] == wanted[1:]:
        return f"; set finetune.fsd_width={found[0]}"
    width = found[0] if layer == "feature_embedding" else found[1]
    return f"; set acmnet.width={width}"
