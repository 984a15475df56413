"""Which parts of a method an arm has, as a paper's ticks show it."""

from collections.abc import Mapping
from typing import Any, Final

from analysis.load import Study

_WEIGHT: Final = "lambda_"  # how recipes name the weight of a loss: <group>.lambda_<loss>
_EPOCHS: Final = "epochs"


def components(study: Study) -> dict[str, str]:
    """Return name -> parameter of the losses that some arm leaves out by a weight of 0."""
    arms: Mapping[str, Mapping[str, Any]] = study.manifest["space"]["arms"]
    found = {}
    for settings in arms.values():
        for parameter, value in settings.items():
            field = parameter.rpartition(".")[2]
            if field.startswith(_WEIGHT) and value == 0:
                found[field.removeprefix(_WEIGHT).upper()] = parameter
    return dict(sorted(found.items()))


def has_component(study: Study, arm: str, parameter: str) -> bool:
    """Whether an arm trains with a loss: its weight is not 0, and there is an epoch to train.

    A weight that neither arm, search nor space sets is the recipe's default, which is not 0.
    """
    own = study.manifest["space"]["arms"][arm]
    group = parameter.rpartition(".")[0]
    settings = {**study.definition.get("fixed", {}), **(study.winner or {}), **own}
    return settings.get(parameter) != 0 and settings.get(f"{group}.{_EPOCHS}") != 0
