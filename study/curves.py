"""TensorBoard logs of one trial: scalars by epoch, and its settings with their final metrics.

Each attempt writes a file of its own with all epochs so far, also those of earlier attempts, whose files it
deletes: a file that a dying worker has torn, or that a zombie still writes, leaves neither holes nor doubles.
"""

import tempfile
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from ftcl.training.fit import EpochRecord
from study.checkpoints import Fenced
from study.store import StorageError, Store


class Curves:
    """Writes one trial's curves; `tensorboard --logdir OUT` shows them beside the others.

    `suffix` ends the names of the attempt's files, and those of no other attempt. In a remote store the file
    is replaced at each `flush`; in a local one it grows, so that TensorBoard can follow it.
    """

    def __init__(self, store: Store, folder: str, suffix: str) -> None:
        self._store = store
        self._folder = folder
        self._suffix = suffix
        self._scratch: tempfile.TemporaryDirectory[str] | None = None
        self._writer: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What went wrong before is what the caller must hear of.
        with suppress(Exception) if kind else nullcontext():
            if self._writer is not None:
                self._writer.close()
                if kind is None or not issubclass(kind, Fenced | StorageError):
                    self._upload()
        if self._scratch is not None:
            self._scratch.cleanup()

    def add_epoch(self, record: EpochRecord) -> None:
        """Write the metrics of one epoch."""
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
        # TensorBoard takes the columns of its HParams tab from the one description of an experiment that it
        # comes across first; trials of other stages and arms have other settings, so no trial writes one.
        _, *session = hparams(shown, final)
        for summary in session:
            writer._get_file_writer().add_summary(summary)
        for name, value in final.items():
            writer.add_scalar(name, value)

    def flush(self) -> None:
        """Make what was written visible, and delete what other attempts wrote; for the newest attempt."""
        if self._writer is None:
            return
        self._writer.flush()
        self._upload()
        for name in self._store.names(self._folder):
            if not name.endswith(self._suffix):
                self._store.delete(f"{self._folder}/{name}")

    def _upload(self) -> None:
        if self._scratch is not None:
            for path in Path(self._scratch.name).iterdir():
                self._store.write(f"{self._folder}/{path.name}", path.read_bytes())

    def _open(self) -> SummaryWriter:
        if self._writer is None:
            if self._store.local is not None:
                folder = str(self._store.local / self._folder)
            else:
                self._scratch = tempfile.TemporaryDirectory(prefix="curves-")
                folder = self._scratch.name
            # A TensorBoard that has read an earlier attempt's file forgets it.
            self._writer = SummaryWriter(folder, purge_step=0, filename_suffix=self._suffix)
        return self._writer
