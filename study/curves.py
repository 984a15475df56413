"""TensorBoard logs of one trial: scalars by epoch, and its settings with their final metrics."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ftcl.training.fit import EpochRecord


class Curves:
    """Writes one trial's curves; `tensorboard --logdir OUT` shows them beside the others.

    Epochs read back from a checkpoint were written by an earlier attempt; what that attempt wrote beyond them
    is hidden.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None
        self._replayed = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def add_epoch(self, record: EpochRecord) -> None:
        """Write the metrics of one epoch, unless an earlier attempt did."""
        if record.replayed:
            self._replayed = record.epoch
            return
        writer = self._open()
        for name, value in record.metrics.items():
            writer.add_scalar(name, value, record.epoch)

    def add_settings(self, settings: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """Write the settings with their final metrics into the HParams tab."""
        writer = self._open()
        shown = {
            name: value if isinstance(value, bool | int | float | str) else str(value)
            for name, value in settings.items()
        }
        # Under names of their own: with those of the curves they would be a last point of each.
        final = {f"final/{name}": value for name, value in metrics.items()}
        for summary in hparams(shown, final):
            writer._get_file_writer().add_summary(summary)
        for name, value in final.items():
            writer.add_scalar(name, value)

    def _open(self) -> SummaryWriter:
        if self._writer is None:
            purge = self._replayed + 1 if self._replayed else None
            self._writer = SummaryWriter(str(self._folder), purge_step=purge)
        return self._writer
