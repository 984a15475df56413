"""What stages that train one network by steps have in common."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ftcl.training.stage import Stage
from ftcl.training.state import LossMeter, TrainingState, load_weights


class NetworkStage(Stage):
    """A stage whose progress is all in a `TrainingState`; `terms` names what `start_epoch` yields."""

    terms: tuple[str, ...]
    _state: TrainingState

    def train_epoch(self) -> dict[str, float]:
        meter = LossMeter(self.terms)
        _, steps = self.start_epoch()
        for values in steps:
            meter.add(values)
        means = meter.means(self.epoch + 1)
        self.epoch += 1
        return means

    def export(self) -> dict[str, Tensor]:
        return self._state.export()

    def load_export(self, weights: Mapping[str, Tensor]) -> None:
        load_weights(self._state.network, weights, "the exported weights")

    def state_dict(self) -> dict[str, Any]:
        return self._state.capture(self.epoch)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.epoch = self._state.restore(state)
