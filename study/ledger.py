"""The ledger: every trial of a study, its epochs and its end, in one Optuna journal file.

The ledger is the truth of a study; everything else (tables of records, TensorBoard logs) is derived from it.
A trial is one stage run with one seed: a pretraining, or a fine-tuning of one proposal or one arm.
One process writes it, the driver. Each change is one appended line, so a row is never half-written.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from study.rows import Cell, Row, Status

FILE_NAME: Final = "ledger.journal"
_TRIALS: Final = "trials"
_STATE_OF_STATUS: Final[Mapping[Status, TrialState]] = {
    "running": TrialState.RUNNING,
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
_STATUS_OF_STATE: Final = {state: status for status, state in _STATE_OF_STATUS.items()}


class Ledger:
    """Appends trials, epochs and ends to `OUT/ledger.journal`, and holds their rows in memory.

    Opening an existing ledger cuts a torn last line (a crash in the middle of an append) before anything is
    appended behind it.
    """

    def __init__(self, folder: Path) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        path = folder / FILE_NAME
        _cut_torn_tail(path)
        self.storage = optuna.storages.JournalStorage(JournalFileBackend(str(path)))
        study = optuna.create_study(study_name=_TRIALS, storage=self.storage, load_if_exists=True)
        self._study_id = study._study_id
        frozen = self.storage.get_all_trials(self._study_id, deepcopy=False)
        self._ids = {trial.number: trial._trial_id for trial in frozen}
        self.rows: dict[int, Row] = {trial.number: _row(trial) for trial in frozen}

    def start(self, cell: Cell, parameters: Mapping[str, Any]) -> Row:
        """Enter a new running trial; its number is its identity from here on."""
        template = optuna.trial.create_trial(
            state=TrialState.RUNNING,
            user_attrs={"cell": vars(cell), "parameters": dict(parameters)},
        )
        trial_id = self.storage.create_new_trial(self._study_id, template_trial=template)
        trial = self.storage.get_trial(trial_id)
        self._ids[trial.number] = trial_id
        self.rows[trial.number] = _row(trial)
        return self.rows[trial.number]

    def record_epoch(self, number: int, epoch: int, metrics: Mapping[str, float], host: str) -> Row:
        """Append one epoch of a running trial; an epoch that is already there is kept as it was."""
        row = self.rows[number]
        if epoch in row.epochs:
            return row
        if row.host != host:
            self.storage.set_trial_user_attr(self._ids[number], "host", host)
        self.storage.set_trial_user_attr(self._ids[number], f"epoch/{epoch}", dict(metrics))
        self.rows[number] = replace(row, epochs={**row.epochs, epoch: dict(metrics)}, host=host)
        return self.rows[number]

    def end(
        self,
        number: int,
        status: Status,
        *,
        result: Mapping[str, Any] | None = None,
        failure: str | None = None,
        host: str | None = None,
        value: float | None = None,
    ) -> Row:
        """Close a running trial once; what closed it first stands.

        `value` is the objective of a complete trial, for tools that read the journal with Optuna.
        """
        row = self.rows[number]
        if row.status != "running":
            return row
        trial_id = self._ids[number]
        end = {"result": dict(result or {}), "failure": failure, "host": host or row.host}
        self.storage.set_trial_user_attr(trial_id, "end", end)
        self.storage.set_trial_state_values(
            trial_id,
            _STATE_OF_STATUS[status],
            # Optuna wants a value for a complete trial; one without an objective (a pretraining) has none.
            [value if value is not None else 0.0] if status == "complete" else None,
        )
        self.rows[number] = _row(self.storage.get_trial(trial_id))
        return self.rows[number]


def _row(trial: FrozenTrial) -> Row:
    attributes = trial.user_attrs
    end = attributes.get("end", {}) if trial.state.is_finished() else {}
    result = end.get("result", {})
    assert trial.datetime_start is not None
    return Row(
        trial=trial.number,
        cell=Cell(**attributes["cell"]),
        parameters=attributes["parameters"],
        status=_STATUS_OF_STATE[trial.state],
        started_at=trial.datetime_start,
        ended_at=trial.datetime_complete,
        epochs={
            int(name.removeprefix("epoch/")): metrics
            for name, metrics in attributes.items()
            if name.startswith("epoch/")
        },
        host=end.get("host", attributes.get("host")),
        failure=end.get("failure"),
        result=result,
    )


def _cut_torn_tail(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            file.truncate(whole)
