"""Two ways to choose and to score: the default, and the one of the authors' scripts."""

import dataclasses
from collections.abc import Mapping
from typing import Literal

from ftcl.recipes.recipe import Config, StageSpec

Protocol = Literal["default", "reference"]
PROTOCOLS: Mapping[str, str] = {
    "default": "epochs chosen on validation, true temporal IoU in non-maximum suppression",
    "reference": "the authors' choices: epochs chosen on test, suppression adds 1 s to lengths and overlaps",
}


def with_protocol(config: Config, protocol: Protocol) -> Config:
    """`config` with the localisation that the protocol prescribes."""
    if protocol == "default":
        return config
    localization = dataclasses.replace(config["localization"], nms_reference_plus_one=True)
    return {**config, "localization": localization}


def holds_out(protocol: Protocol) -> bool:
    """Whether validation videos may be taken from training: the authors train on all of them."""
    return protocol == "default"


def selection_split(stage: StageSpec, protocol: Protocol) -> str | None:
    """The split whose headline metric chooses the exported epoch; None: the last epoch is exported."""
    if protocol == "reference":
        return "test"
    return "validation" if stage.selects_epoch else None
