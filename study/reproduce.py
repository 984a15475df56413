"""Run one trial again from its record alone, and compare.

Only the study's manifest, tables and files are read, so a finished, a running and a copied study will do.
The trial runs in this process, without a cluster, in a folder of its own that is deleted again.
"""

import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from ftcl.data import DataError, VideoDataset
from ftcl.recipes.protocol import holds_out
from study.assembly import detail_videos
from study.comparison import (
    ON_RECORD,
    Comparison,
    Difference,
    Part,
    compare_epochs,
    compare_metrics,
    compare_tables,
    compare_values,
    compare_weights,
    counted,
)
from study.failures import FailureKind
from study.job import Job, News, Setup
from study.plan import LaunchError
from study.pretrain import load_export
from study.recorded import Recorded, Records
from study.records import RecordsError, predictions_name, read_table
from study.staging import open_data
from study.store import Store, open_store
from study.surroundings import find_changes
from study.trial import run_trial

_OWN_FAILURES: Final = ("non_finite", "code_error")  # the others come from outside the trial
_TELL_NOTHING: Final = ("host_memory", "gpu_memory", "disk_full", "storage")


def reproduce(out: str, trial: int, *, data: str | None) -> Comparison:
    """Run a trial of the study in `out` again and compare it with its record.

    `data` says where the data lie here, if elsewhere than on record. Raises StoreError, RecordsError,
    DataError or LaunchError where the trial cannot be run again.
    """
    records = Records(open_store(out))
    recorded = records.trial(trial)
    opened = _open_data(records, data)
    with tempfile.TemporaryDirectory(prefix="reproduce-") as folder:
        again = _Again(records, opened, open_store(folder))
        again.compare(recorded)
    return Comparison(tuple(again.parts), tuple(find_changes(records, recorded)))


def _open_data(records: Records, spec: str | None) -> VideoDataset:
    described = records.manifest["data"]
    data = open_data(
        spec or described["spec"],
        fold=described["fold"],
        seed=described["seed"],
        hold_out=holds_out(records.manifest["protocol"]),
        fingerprint=described["fingerprint"] if spec is None else None,
    )
    if data.fingerprint != described["fingerprint"]:
        raise DataError(
            f"--data {spec} is other data than the study's: {data.spec} has the fingerprint "
            f"{data.fingerprint}, on record is {described['spec']} with {described['fingerprint']}; say "
            "where the study's own data lie, or drop --data"
        )
    if data.preset != described["preset"]:
        raise DataError(
            f"the study has the defaults of {described['preset']}, {data.spec} has those of {data.preset}; "
            f"write --data {described['preset']}:DIR"
        )
    return data


class _Enough(BaseException):
    """What is to be compared has been run; no Exception, so that the trial does not take it for a failure."""


@dataclass
class _Run:
    """What a trial has said this time."""

    last: int | None  # the epoch after which it is stopped; None: it ends by itself
    epochs: dict[int, dict[str, float]] = field(default_factory=dict)
    result: dict[str, Any] | None = None
    failure: str | None = None
    kind: FailureKind | None = None

    def hear(self, news: News) -> None:
        for epoch, metrics in news.epochs.items():
            if self.last is None or epoch <= self.last:
                self.epochs[epoch] = {name: value for name, value in metrics.items() if "/" in name}
        if news.failure is not None:
            # The file of which it may speak goes with the scratch store.
            self.failure, self.kind = news.failure.partition(", see crashes/")[0], news.kind
        elif news.result is not None:
            self.result = dict(news.result)
        elif self.last is not None and max(news.epochs, default=0) >= self.last:
            raise _Enough


class _Again:
    """Runs trials on record again, into a scratch store, and compares each."""

    def __init__(self, records: Records, data: VideoDataset, scratch: Store) -> None:
        self.parts: list[Part] = []
        self._records = records
        self._data = data
        self._scratch = scratch
        self._stages = [stage.name for stage in records.recipe.stages]

    def compare(self, recorded: Recorded) -> _Run:
        """Add the comparison of a trial, after those of the pretrainings that have to be run for it."""
        row = recorded.row
        part = Part(recorded.title)
        last = _last_epoch(recorded, part)
        if row["stage"] in self._stages:
            run = self._run(recorded, last, part)
        else:
            metrics = self._records.recipe.context(self._data, "test", row["seed"])[row["arm"]]
            run = _Run(None, result={"metrics": {f"test/{name}": value for name, value in metrics.items()}})
        _compare_epochs(part, recorded, run)
        if row["status"] == "complete" and run.result is not None:
            _compare_result(part, recorded, run.result)
            self._compare_files(part, recorded, run.result)
        _compare_failure(part, recorded, run)
        self.parts.append(part)
        return run

    def _run(self, recorded: Recorded, last: int | None, part: Part) -> _Run:
        row, manifest = recorded.row, self._records.manifest
        stage = self._stages.index(row["stage"])
        is_final = stage == len(self._stages) - 1
        job = Job(
            trial=recorded.trial,
            stage=stage,
            seed=row["seed"],
            parameters=self._records.settings_of(recorded),
            init=None if stage == 0 else self._export(row["pretrain_key"], stage - 1, part),
            export_key=None if is_final else row["pretrain_key"],
            test=row["phase"] == "ablation" and is_final,
            run_key=f"trial-{recorded.trial}",
        )
        setup = Setup(
            out=self._scratch.location,
            recipe=self._records.recipe.name,
            data=self._data.spec,
            fold=manifest["data"]["fold"],
            data_seed=manifest["data"]["seed"],
            fingerprint=self._data.fingerprint,
            protocol=manifest["protocol"],
            metric=manifest["space"]["definition"]["objective"]["metric"],
            deterministic=manifest["deterministic"],
            detail_videos=detail_videos(self._data),
            num_threads=self._records.num_threads_of(recorded),
            gpus=(0.0,) * len(self._stages),
        )
        run = _Run(last)
        with suppress(_Enough):
            run_trial(job, setup, run.hear)
        if run.kind in _TELL_NOTHING:
            raise LaunchError(f"{recorded.title} cannot be run again here: {run.failure}")
        return run

    def _export(self, key: str, stage: int, part: Part) -> str:
        """Put what a trial starts from into the scratch store, run again if it is gone; return its name."""
        source = self._records.pretraining(key, self._stages[stage])
        if self._copies(source.row["export"]):
            return str(source.row["export"])
        run = self.compare(source)
        if run.result is None:
            raise LaunchError(f"what it starts from, {source.title}, fails now: {run.failure}")
        part.notes.append(f"its pretrained model is gone or damaged, so trial {source.trial} ran again first")
        return str(run.result["export"])

    def _copies(self, name: str) -> bool:
        """Copy an export into the scratch store; return False if it is gone or damaged."""
        store = self._records.store
        try:
            load_export(store, name)
        except DataError:
            return False
        self._scratch.write(name, store.read(name))
        return True

    def _compare_files(self, part: Part, recorded: Recorded, result: dict[str, Any]) -> None:
        """Compare what a complete trial has left: detections, and weights for the next stage."""
        store, detections = self._records.store, predictions_name(recorded.trial)
        if self._scratch.exists(detections) and not store.exists(detections):
            part.notes.append(f"{store.place(detections)} is gone, so the detections are not compared")
        elif self._scratch.exists(detections):
            before, now = read_table(store, detections), read_table(self._scratch, detections)
            part.compared.append(counted(len(before), "detection"))
            part.differences += compare_tables("detections", before, now)
        if recorded.row["export"] is not None:
            self._compare_weights(part, recorded.row["export"], result["export"])

    def _compare_weights(self, part: Part, recorded: str, now: str) -> None:
        part.compared.append("exported weights")
        if _digest_in(recorded) == _digest_in(now):
            return
        try:
            before = load_export(self._records.store, recorded)
        except DataError:
            words = "another digest, and those on record are gone or damaged"
            part.differences.append(Difference("exported weights", words=words))
        else:
            part.differences += compare_weights(before, load_export(self._scratch, now))


def _last_epoch(recorded: Recorded, part: Part) -> int | None:
    """Return after which epoch a trial is to be stopped, if it did not end by itself; note why."""
    row, last = recorded.row, max(recorded.epochs, default=0)
    if row["superseded"] is not None:
        part.notes.append(f"superseded: {row['superseded']}")
    if row["failure_kind"] == "pretrain_failed":
        raise RecordsError(f"{recorded.title} never ran: {row['failure']}; reproduce that one")
    if row["status"] == "complete":
        return None
    if row["status"] == "failed" and row["failure_kind"] != "cancelled":
        return last + 1
    if last == 0:
        raise RecordsError(
            f"{recorded.title} ({row['status']}) has no epoch on record yet: nothing to compare"
        )
    part.notes.append(f"{row['status']} on record after epoch {last}, so it is run and compared up to there")
    return last


def _compare_epochs(part: Part, recorded: Recorded, run: _Run) -> None:
    epochs = recorded.epochs.keys() | run.epochs.keys()
    if recorded.row["status"] == "failed" or run.kind is not None:
        # A failure may come sooner or later than on record, which is told by itself.
        epochs = recorded.epochs.keys() & run.epochs.keys()
    then = {epoch: metrics for epoch, metrics in recorded.epochs.items() if epoch in epochs}
    now = {epoch: metrics for epoch, metrics in run.epochs.items() if epoch in epochs}
    if then:
        values = max(len(metrics) for metrics in then.values())
        part.compared.append(f"{counted(len(then), 'epoch')} × {counted(values, 'value')}")
    part.differences += compare_epochs(then, now)


def _compare_result(part: Part, recorded: Recorded, result: dict[str, Any]) -> None:
    part.differences += compare_values(
        "chosen epoch", [(None, recorded.row["chosen_epoch"], result.get("chosen_epoch"))]
    )
    part.differences += compare_metrics(recorded.metrics, result["metrics"])
    part.compared.append(counted(len(recorded.metrics), "final metric"))


def _compare_failure(part: Part, recorded: Recorded, run: _Run) -> None:
    """Compare how a trial failed, then or now; what came from outside the trial need not come again."""
    row, last = recorded.row, max(recorded.epochs, default=0)
    failed = row["status"] == "failed" and row["failure_kind"] != "cancelled"
    then = f"{row['failure_kind']} after epoch {last}" if failed else None
    now = None if run.kind is None else f"{run.kind} after epoch {max(run.epochs, default=0)}"
    if then is not None and now == then:
        part.compared.append(f"its failure ({then})")
    elif now is not None:
        words = f"{'none' if then is None else then} on record, {now} now: {run.failure}"
        part.differences.append(Difference("failure", words=words))
    elif then is not None and row["failure_kind"] in _OWN_FAILURES:
        part.differences.append(Difference("failure", words=f"{then} {ON_RECORD}: {row['failure']}"))
    elif then is not None:
        part.notes.append(
            f"failed on record ({row['failure_kind']}: {row['failure']}), but not by its own fault"
        )


def _digest_in(name: str) -> str:
    return name.removesuffix(".pt").rpartition("-")[2]
