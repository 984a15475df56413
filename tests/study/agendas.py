"""Studies that pretended workers have run, and what is looked at in their rows."""

from collections.abc import Mapping
from typing import Any

from study.job import Job
from study.plan import Plan
from study.rows import Row
from tests.study.pretended import PretendedWorkers, open_agenda


def finished(plan: Plan, *, seed: int = 0, concurrency: int = 2) -> dict[int, Row]:
    agenda, ledger = open_agenda(plan)
    assert PretendedWorkers(plan, seed, concurrency).run(agenda)
    assert agenda.done
    return ledger.rows


def essence(rows: Mapping[int, Row]) -> list[Any]:
    """What a row says, whatever its number and its times."""
    return sorted(
        (repr(row.cell), sorted(row.parameters.items()), row.status, sorted(row.epochs), str(row.result))
        for row in rows.values()
    )


def counting(rows: Mapping[int, Row], phase: str) -> dict[int, Row]:
    """Return the fine-tunings of a phase that count."""
    return {
        trial: row
        for trial, row in rows.items()
        if row.superseded is None and row.cell.phase == phase and row.cell.stage == "finetune"
    }


def interrupt_at(arm: str, plan: Plan) -> None:
    """Run a study, and stop it while the first trial of an arm is with a worker."""
    agenda, ledger = open_agenda(plan)

    def dies(job: Job) -> bool:
        return job.tags.get("arm") == arm and agenda.stop("enough") is None

    PretendedWorkers(plan, 0, 1, fails=dies, failure_kind="worker_killed").run(agenda)
    agenda.close()
    assert any(row.cell.arm == arm and row.status == "waiting" for row in ledger.rows.values())
