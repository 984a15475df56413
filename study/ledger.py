"""The ledger: every trial of a study, its epochs, its attempts and its end, in one Optuna storage.

The ledger is the truth of a study; everything else (tables of records, TensorBoard logs) is derived from it.
A trial is one stage run with one seed: a pretraining, or a fine-tuning of one proposal or one arm.
One process writes it, the driver (study.ledger_storage.hold). Each change is one write of the storage, whole
or absent, and the changes are ordered so that a driver may die between any two of them. A change is on the
disk when its call returns, or at the end of the block of `together`.

Trials lie in the Optuna study "<study id>/trials". What Optuna has no place for lies in attributes:

    of a trial    cell, parameters, started_at, attempts, host, end,
                  epoch/<epoch>        "<n> <values>": the values of the study's metrics/<n>, a JSON list
                  failure/<index>      how an attempt ended (study.failures.Failure)
                  resumed/<attempt>    the epoch that an attempt went on from
    of the study  metrics/<n>          names of an epoch's metrics, once for all epochs that have the same
                  superseded/<trial>   why a trial no longer counts; Optuna closes ended trials to writing
"""

import datetime
import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any, Final

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState

from study.failures import Failure, FailureKind
from study.ledger_storage import LedgerError, Stored, has_study, open_study, read_trials, together
from study.metrics import Columns, Metrics
from study.rows import Cell, Row, Status

_STATE_OF_STATUS: Final[Mapping[Status, TrialState]] = {
    "running": TrialState.RUNNING,
    "waiting": TrialState.WAITING,
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_STATUS_OF_STATE: Final = {state: status for status, state in _STATE_OF_STATUS.items()}


def is_in(storage: BaseStorage, study_id: str) -> bool:
    """Say whether a storage has the ledger of a study."""
    return has_study(storage, f"{study_id}/trials")


class Ledger:
    """Writes trials, epochs, attempts and ends to a storage, and holds their rows in memory.

    Raises LedgerLost from any write that the storage no longer takes.
    """

    def __init__(self, storage: BaseStorage, study_id: str) -> None:
        self.storage = storage
        self.study_id = study_id
        self._study = open_study(storage, f"{study_id}/trials")._study_id
        attributes = storage.get_study_user_attrs(self._study)
        self._columns: list[Columns] = []
        while (name := f"metrics/{len(self._columns)}") in attributes:
            self._columns.append(Columns(attributes[name]))
        self._ids: dict[int, int] = {}
        self.rows: dict[int, Row] = {}
        for stored in read_trials(storage, self._study):
            self._ids[stored.number] = stored.id
            superseded = attributes.get(f"superseded/{stored.number}")
            try:
                self.rows[stored.number] = self._row(stored, superseded)
            except (KeyError, IndexError, TypeError, ValueError) as error:
                raise LedgerError(
                    f"the ledger lacks a part of trial {stored.number} of study {study_id} ({error!r}): "
                    "lines of it were removed or changed; restore it from a copy"
                ) from error

    def together(self) -> AbstractContextManager[None]:
        """Let the writes of a block wait for the disk once, at its end; nothing may follow from them before.

        A driver that dies within it leaves all of them, the first ones, or none.
        """
        return together(self.storage)

    def start(self, cell: Cell, parameters: Mapping[str, Any]) -> Row:
        """Enter a new running trial; its number is its identity from here on."""
        now = _now()
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            user_attrs={
                "cell": vars(cell),
                "parameters": dict(parameters),
                "started_at": now.isoformat(),
            },
        )
        trial_id = self.storage.create_new_trial(self._study, template_trial=template)
        trial = self.storage.get_trial(trial_id).number
        self._ids[trial] = trial_id
        self.rows[trial] = Row(trial, cell, dict(parameters), "running", now)
        return self.rows[trial]

    def begin_attempt(self, trial: int) -> Row:
        """Count a further hand-out of a trial that has not ended; it is running from here on."""
        row = self.rows[trial]
        self._set_open(trial, "running")
        return self._set(row, "attempts", row.attempts + 1, attempts=row.attempts + 1, status="running")

    def set_waiting(self, trial: int) -> Row:
        """Leave a running trial to the next launch."""
        self._set_open(trial, "waiting")
        self.rows[trial] = replace(self.rows[trial], status="waiting")
        return self.rows[trial]

    def record_epoch(self, trial: int, epoch: int, metrics: Mapping[str, float], host: str) -> Row:
        """Append one epoch of a running trial; an epoch that is already there is kept as it was."""
        row = self.rows[trial]
        if epoch in row.epochs or row.status not in ("running", "waiting"):
            return row
        if row.host != host:
            row = self._set(row, "host", host, host=host)
        index = self._index_of(tuple(metrics))
        taken = self._columns[index].take(metrics.values())
        text = f"{index} {json.dumps(list(taken.values()))}"
        return self._set(row, f"epoch/{epoch}", text, epochs={**row.epochs, epoch: taken})

    def record_resumed(self, trial: int, attempt: int, epoch: int) -> Row:
        """Note the epoch that an attempt went on from; what is noted first stands."""
        row = self.rows[trial]
        if attempt in row.resumed or row.status not in ("running", "waiting"):
            return row
        return self._set(row, f"resumed/{attempt}", epoch, resumed={**row.resumed, attempt: epoch})

    def record_failure(self, trial: int, failure: Failure) -> Row:
        """Append how an attempt of a trial ended before the trial did."""
        row = self.rows[trial]
        failures = (*row.failures, failure)
        return self._set(row, f"failure/{len(row.failures)}", asdict(failure), failures=failures)

    def end(
        self,
        trial: int,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        failure: str | None = None,
        failure_kind: FailureKind | None = None,
        host: str | None = None,
        value: float | None = None,
    ) -> Row:
        """Close a trial once; what closed it first stands.

        `value` is the objective of a complete trial, for tools that read the storage with Optuna.
        """
        row = self.rows[trial]
        if row.status not in ("running", "waiting"):
            return row
        end: dict[str, Any] = {
            "result": dict(result or {}),
            "failure": failure,
            "failure_kind": failure_kind,
            "host": host or row.host,
        }
        now = _now()
        self.storage.set_trial_user_attr(self._ids[trial], "end", {**end, "ended_at": now.isoformat()})
        # Optuna wants a value for a complete trial; one without an objective (a pretraining) has none.
        objective = 0.0 if value is None or math.isnan(value) else value
        values = [objective] if status == "complete" else None
        self.storage.set_trial_state_values(self._ids[trial], _STATE_OF_STATUS[status], values)
        self.rows[trial] = replace(row, status=status, ended_at=now, **end)
        return self.rows[trial]

    def supersede(self, trial: int, reason: str | None) -> Row:
        """Count an ended trial no longer, and say why; None counts it again."""
        row = self.rows[trial]
        if row.superseded != reason:
            self.storage.set_study_user_attr(self._study, f"superseded/{trial}", reason)
            self.rows[trial] = replace(row, superseded=reason)
        return self.rows[trial]

    def _set(self, row: Row, name: str, value: Any, **changes: Any) -> Row:
        self.storage.set_trial_user_attr(self._ids[row.trial], name, value)
        self.rows[row.trial] = replace(row, **changes)
        return self.rows[row.trial]

    def _set_open(self, trial: int, status: Status) -> None:
        if self.rows[trial].status != status:
            self.storage.set_trial_state_values(self._ids[trial], _STATE_OF_STATUS[status])

    def _index_of(self, names: tuple[str, ...]) -> int:
        for index, columns in enumerate(self._columns):
            if columns.names == names:
                return index
        self.storage.set_study_user_attr(self._study, f"metrics/{len(self._columns)}", names)
        self._columns.append(Columns(names))
        return len(self._columns) - 1

    def _row(self, stored: Stored, superseded: str | None) -> Row:
        attributes = stored.attributes
        status = _STATUS_OF_STATE[stored.state]
        # A driver that died between the two writes of an end has not ended the trial.
        end = attributes.get("end", {}) if stored.state.is_finished() else {}
        failures: list[Failure] = []
        while (name := f"failure/{len(failures)}") in attributes:
            failures.append(Failure(**attributes[name]))
        epochs: dict[int, Mapping[str, float]] = {}
        resumed = {}
        for name, value in attributes.items():
            kind, _, index = name.partition("/")
            if kind == "epoch":
                epochs[int(index)] = self._metrics(value)
            elif kind == "resumed":
                resumed[int(index)] = value
        return Row(
            trial=stored.number,
            cell=Cell(**attributes["cell"]),
            parameters=attributes["parameters"],
            status=status,
            started_at=datetime.datetime.fromisoformat(attributes["started_at"]),
            ended_at=datetime.datetime.fromisoformat(end["ended_at"]) if end else None,
            epochs=dict(sorted(epochs.items())),
            host=end.get("host", attributes.get("host")),
            failure=end.get("failure"),
            failure_kind=end.get("failure_kind"),
            result=end.get("result", {}),
            attempts=attributes.get("attempts", 1),
            failures=tuple(failures),
            resumed=dict(sorted(resumed.items())),
            superseded=superseded,
        )

    def _metrics(self, text: str) -> Metrics:
        index, _, values = text.partition(" ")
        return self._columns[int(index)].take(json.loads(values))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
