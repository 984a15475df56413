"""The real driver of a study, its calls measured: agenda, proposals, ledger, display."""

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml
from rich.console import Console

from study.agenda import Agenda
from study.assembly import assemble
from study.job import Job, News
from study.ledger import Ledger
from study.ledger_storage import hold, open_storage
from study.manifest import new_launch
from study.plan import Options, Plan, make_plan
from study.records import MANIFEST, write_json, write_tables

_SPACE: Final = Path(__file__).parents[2] / "search_spaces" / "fsd_lcs.yaml"
_T = TypeVar("_T")


@dataclass
class Cost:
    """What the calls of one kind have taken the driver."""

    calls: int = 0
    cpu_s: float = 0.0
    flush_s: float = 0.0  # waiting for the disk
    tune_s: float = 0.0  # of Tune's loop around them, charged and not measured here

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.cpu_s + self.flush_s + self.tune_s


def plan_study(folder: Path, trials: int, *, stops_early: bool, sampler: str) -> Plan:
    """Plan the shipped study fsd_lcs, with as many proposals as make about so many trials."""
    space: dict[str, Any] = yaml.safe_load(_SPACE.read_text(encoding="utf-8"))
    search = space["search"]
    others = space["ablation"]["seeds"] * (len(space["ablation"]["arms"]) + 1)
    others += search["seeds"] + search["confirm"]["seeds"] * (search["confirm"]["top"] + 1)
    search["trials"] = max((trials - others) // search["seeds"], search["confirm"]["top"])
    search["sampler"]["name"] = sampler
    if not stops_early:
        search["early_stopping"] = None
    path = folder / "fsd_lcs.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False), encoding="utf-8")
    return make_plan(Options(space=str(path), out=str(folder / "out")))


class Driver:
    """Takes the calls of Tune's loop one after the other, and knows what each has taken.

    A call costs the CPU time of its thread and the time that it waited for `fsync`: on a machine that others
    use too, the time of day would count their work as well. With `flush_s` every flush counts as so long and
    is not done. A trial that is handed out, and every news of one, costs `tune_s` besides.
    """

    def __init__(
        self, plan: Plan, agenda: Agenda, ledger: Ledger, *, flush_s: float | None, tune_s: float
    ) -> None:
        self.plan = plan
        self.ledger = ledger
        self.agenda = agenda
        self.costs: dict[str, Cost] = defaultdict(Cost)
        self._tune_s = tune_s
        self._flush_s = flush_s
        self._waited_s = 0.0
        self._fsync = os.fsync

    def next_job(self) -> tuple[Job | None, float]:
        """Ask for a trial to start; also return what that took."""
        job, cost_s = self._measured("next_job", self.agenda.next_job)
        return job, cost_s + (self._charge("next_job") if job is not None else 0.0)

    def take(self, news: News) -> tuple[bool, float]:
        """Tell news of a trial; return whether it is to stop, and what that took."""
        kind = "end" if news.result is not None else "epoch"
        stops, cost_s = self._measured(kind, lambda: self.agenda.take(news))
        return stops, cost_s + self._charge(kind)

    def died(self, job: Job, host: str, node: str) -> float:
        """Tell that a trial's node was lost; return what that took."""
        message = f"the node {host} was lost"
        _, cost_s = self._measured(
            "died",
            lambda: self.agenda.died(job.trial, job.attempt, "node_lost", message, host, node),
        )
        return cost_s + self._charge("died")

    def _charge(self, kind: str) -> float:
        self.costs[kind].tune_s += self._tune_s
        return self._tune_s

    def _measured(self, kind: str, call: Callable[[], _T]) -> tuple[_T, float]:
        waited_s, began_s = self._waited_s, time.thread_time()
        answer = call()
        cost = self.costs[kind]
        cpu_s, flush_s = time.thread_time() - began_s, self._waited_s - waited_s
        cost.calls += 1
        cost.cpu_s += cpu_s
        cost.flush_s += flush_s
        return answer, cpu_s + flush_s

    def flush(self, descriptor: int) -> None:
        """Stand in for os.fsync."""
        if self._flush_s is not None:
            self._waited_s += self._flush_s
            return
        began_s = time.perf_counter()
        self._fsync(descriptor)
        self._waited_s += time.perf_counter() - began_s

    @property
    def spent_s(self) -> float:
        """All the time that it has spent so far."""
        return sum(cost.seconds for cost in self.costs.values())

    def ledger_bytes(self) -> int:
        """Return the size of the journal."""
        assert self.plan.ledger.path is not None
        return self.plan.ledger.path.stat().st_size

    def close(self) -> float:
        """End the launch: leave nothing running, derive the tables; return the seconds."""
        began_s = time.thread_time()
        self.agenda.close()
        write_tables(self.plan.store, self.ledger.rows.values())
        return time.thread_time() - began_s


@contextmanager
def open_driver(
    plan: Plan, slots: int, flush_s: float | None = None, tune_s: float = 0.0
) -> Iterator[Driver]:
    """Open a new study as a launch does, on its real ledger; its display prints into nothing."""
    assert plan.store.local is not None
    plan.store.local.mkdir(parents=True)
    write_json(plan.store, MANIFEST, {**plan.manifest, "launches": [new_launch((), 1)]})
    with hold(plan.ledger, plan.study_id) as held, Path(os.devnull).open("w", encoding="utf-8") as nothing:
        ledger = Ledger(open_storage(plan.ledger, held), plan.study_id)
        agenda, _, display = assemble(plan, ledger, slots, Console(file=nothing, width=120))
        driver = Driver(plan, agenda, ledger, flush_s=flush_s, tune_s=tune_s)
        fsync, os.fsync = os.fsync, driver.flush
        try:
            with display:
                yield driver
        finally:
            os.fsync = fsync
