"""A discrete-event simulation of a study on a cluster, in virtual time, around the real driver.

The driver is serial: it handles one event after the other, and each takes in virtual time what the real call
took. A worker waits until its report is handled, as Tune's workers do; a free slot waits until it is handed a
trial. Every slot is at each moment in one of four states:

    busy      trains
    driver    waits for the driver: a report to be handled, a trial to be handed out
    work      free, and nothing can start: a pretraining, or the end of a phase, is waited for
    node      has no machine: it starts, or was taken away
"""

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from benchmarks.scale.curves import Curve
from benchmarks.scale.driver import Driver
from benchmarks.scale.machines import Cloud, Market, Node
from benchmarks.scale.workers import Workers
from study.assembly import report_every_s
from study.job import Job, News

State = Literal["busy", "driver", "work", "node"]
STATES: Final[tuple[State, ...]] = ("busy", "driver", "work", "node")


@dataclass(eq=False)
class Slot:
    """A place for one trial on a GPU."""

    node: Node
    state: State = "node"
    since_s: float = 0.0
    freed_s: float = 0.0
    asked_s: float | None = None  # since when it is known that nothing can start
    run: "Run | None" = None


@dataclass(eq=False)
class Run:
    """An attempt of a trial on a slot."""

    job: Job
    curve: Curve
    slot: Slot
    epoch: int  # the last one that is done
    resumed: int | None  # to be told with the first news
    num_epochs: int
    best: float = 0.0
    untold: dict[int, Mapping[str, float]] = field(default_factory=dict)  # epochs that have ended
    told_s: float = 0.0  # when something was told, or it began
    is_lost: bool = False
    since_s: float = 0.0  # when its running epoch began


@dataclass(frozen=True)
class Sample:
    """How far a simulation was at some moment."""

    now_s: float
    ended: int
    handled: int
    driver_s: float
    waited_s: float  # of all slots, for the driver
    busy_s: float  # of all slots


@dataclass
class Tally:
    """What a simulation adds up."""

    seconds: dict[State, float] = field(default_factory=lambda: dict.fromkeys(STATES, 0.0))
    lost_s: float = 0.0  # trained and not on record when the node went
    reclaimed: int = 0  # attempts
    ended: int = 0
    handled: int = 0
    samples: list[Sample] = field(default_factory=list)


class Simulation:
    """Runs a study to its end. `slots_per_gpu` trials share a GPU, each as fast as `Workers` says."""

    def __init__(
        self, driver: Driver, workers: Workers, market: Market, gpus: int, *, slots_per_gpu: int, seed: int
    ) -> None:
        self.driver = driver
        self.cloud = Cloud(market, seed)
        self.tally = Tally()
        self.now_s = 0.0
        self.num_slots = gpus * slots_per_gpu
        self._workers = workers
        self._market = market
        self._slots_per_gpu = slots_per_gpu
        self._gpus = gpus
        self._report_every_s = report_every_s(self.num_slots)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = itertools.count()
        self._driver_free_s = 0.0
        self._cause_s = 0.0  # when the event came that was handled last
        self._free: deque[Slot] = deque()
        self._slots: list[Slot] = []
        self._asks = False  # whether the driver is to be asked for another trial next
        self._runs = 0
        # By trial: epochs with a checkpoint of which the driver has not heard.
        self._saved: dict[int, dict[int, Mapping[str, float]]] = {}

    def run(self, sample_every: int = 1000) -> Tally:
        """Simulate until every trial has ended."""
        left = self._gpus
        while left:
            self._request(min(left, self._market.gpus_per_node), 0.0)
            left -= min(left, self._market.gpus_per_node)
        while not (self.driver.agenda.done and not self._runs):
            if not self._events:
                raise RuntimeError("nothing happens any more, and the study is not done")
            self.now_s, _, act, details = heapq.heappop(self._events)
            act(*details)
            if self.tally.ended >= sample_every * len(self.tally.samples):
                self._sample()
        self.now_s = max(self.now_s, self._driver_free_s)
        for slot in self._slots:
            if slot in self._free:
                self._settle(slot, self.now_s)
            else:
                self._enter(slot, "node", self.now_s)
        self._sample()
        return self.tally

    def _sample(self) -> None:
        tally = self.tally
        tally.samples.append(
            Sample(
                self.now_s,
                tally.ended,
                tally.handled,
                self.driver.spent_s,
                tally.seconds["driver"],
                tally.seconds["busy"],
            )
        )

    def _at(self, when_s: float, act: Callable[..., None], *details: Any) -> None:
        heapq.heappush(self._events, (when_s, next(self._order), act, details))

    def _enter(self, slot: Slot, state: State, when_s: float) -> None:
        self.tally.seconds[slot.state] += when_s - slot.since_s
        slot.state, slot.since_s = state, when_s

    # Nodes.

    def _request(self, gpus: int, now_s: float, slots: list[Slot] | None = None) -> None:
        node = self.cloud.request(gpus, now_s)
        if slots is None:
            slots = [Slot(node) for _ in range(gpus * self._slots_per_gpu)]
            self._slots += slots
        for slot in slots:
            slot.node = node
        self._at(node.up_s, self._comes_up, node, slots)
        if node.reclaimed_s < float("inf"):
            self._at(node.reclaimed_s, self._is_reclaimed, node, slots)

    def _comes_up(self, node: Node, slots: list[Slot]) -> None:
        self._cause_s = self.now_s
        for slot in slots:
            self._set_free(slot, self.now_s)
        self._ask()

    def _is_reclaimed(self, node: Node, slots: list[Slot]) -> None:
        for slot in slots:
            if slot.run is None:
                # It may be promised a trial at a moment that the driver has reached and the clock has not.
                self._settle(slot, max(self.now_s, slot.since_s))
                self._free.remove(slot)
            else:
                run, slot.run = slot.run, None
                run.is_lost = True
                self._saved[run.job.trial] = run.untold
                if run.since_s < self.now_s:
                    self.tally.lost_s += self.now_s - run.since_s
                self._enter(slot, "node", max(self.now_s, slot.since_s))
                self._at(self.now_s + self._market.notice_s, self._hears_of_loss, run, node)
            slot.state = "node"
        self._request(node.gpus, self.now_s, slots)

    # The driver.

    def _handle(self, cost_s: float) -> float:
        """Let the driver be busy with what came now; return when it is through."""
        self._cause_s = self.now_s
        self._driver_free_s = max(self._driver_free_s, self.now_s) + cost_s
        self.tally.handled += 1
        return self._driver_free_s

    def _ask(self) -> None:
        """Let the driver be asked for a trial as soon as it has dealt with what came before."""
        if not self._asks and self._free:
            self._asks = True
            self._at(max(self.now_s, self._driver_free_s), self._hand_out)

    def _hand_out(self) -> None:
        self._asks = False
        if not self._free:
            return
        job, cost_s = self.driver.next_job()
        self._driver_free_s = max(self._driver_free_s, self.now_s) + cost_s
        if job is None:
            for slot in self._free:
                if slot.asked_s is None:
                    slot.asked_s = max(self._driver_free_s, slot.freed_s)
            return
        slot = self._free.popleft()
        self._settle(slot, self._driver_free_s)
        row = self.driver.ledger.rows[job.trial]
        curve = self._workers.curve(job)
        epochs = len(curve.wall_s) if job.parameters.get("finetune.epochs") != 0 else 0
        best = max((m.get("validation/mAP@0.1:0.7", 0.0) for m in row.epochs.values()), default=0.0)
        untold = self._saved.pop(job.trial, {})
        epoch = row.last_epoch + len(untold)
        resumed = epoch if job.attempt > 1 else None
        slot.run = Run(job, curve, slot, epoch, resumed, epochs, best, untold, told_s=self._driver_free_s)
        self._runs += 1
        self._enter(slot, "busy", self._driver_free_s)
        if resumed is None:
            self._go_on(slot.run, self._driver_free_s)
        else:
            slot.run.since_s = self._driver_free_s
            self._at(self._driver_free_s, self._goes_on_from, slot.run)
        self._ask()

    def _settle(self, slot: Slot, when_s: float) -> None:
        """Say what a free slot has waited for: the driver, or something that could start."""
        if slot.asked_s is not None:
            self._enter(slot, "work", min(slot.asked_s, when_s))
            self._enter(slot, "driver", min(max(slot.asked_s, self._cause_s), when_s))
        if self.driver.agenda.done and slot.asked_s is None:
            self._enter(slot, "work", slot.freed_s)
        self._enter(slot, "driver", when_s)

    def _set_free(self, slot: Slot, when_s: float) -> None:
        self._enter(slot, "driver", when_s)
        slot.freed_s, slot.asked_s, slot.run = when_s, None, None
        self._free.append(slot)

    # Workers.

    def _go_on(self, run: Run, when_s: float) -> None:
        run.since_s = when_s
        if run.epoch >= run.num_epochs:
            self._at(when_s, self._reports_end, run)
            return
        takes_s = run.curve.wall_s[run.epoch] * self._workers.scale / run.slot.node.speed
        self._at(when_s + takes_s, self._reports_epoch, run, takes_s)

    def _goes_on_from(self, run: Run) -> None:
        if not run.is_lost:
            self._reports(run)

    def _reports_epoch(self, run: Run, took_s: float) -> None:
        if run.is_lost:
            return
        run.epoch += 1
        metrics = self._workers.metrics(run.job, run.curve, run.epoch, took_s)
        run.best = max(run.best, metrics.get("validation/mAP@0.1:0.7", 0.0))
        run.untold[run.epoch] = metrics
        waited_s = self.now_s - run.told_s
        if run.job.tells(run.epoch, run.num_epochs, waited_s, self._report_every_s):
            self._reports(run)
        else:
            self._go_on(run, self.now_s)

    def _reports_end(self, run: Run) -> None:
        if run.is_lost:
            return
        result = self._workers.result(run.job, run.best)
        if result["export"] is not None:
            self.driver.plan.store.write(result["export"], b"")
        self._reports(run, result=result)

    def _reports(self, run: Run, **what: Any) -> None:
        job, node = run.job, run.slot.node
        news = News(job.trial, job.attempt, node.host, node.ray_id, run.resumed, run.untold, **what)
        run.resumed, run.untold = None, {}
        stops, cost_s = self.driver.take(news)
        self._enter(run.slot, "driver", self.now_s)
        done_s = self._handle(cost_s)
        if stops or news.result is not None:
            self._runs -= 1
            self.tally.ended += 1
            self._set_free(run.slot, done_s)
        else:
            self._enter(run.slot, "busy", done_s)
            run.told_s = done_s
            self._go_on(run, done_s)
        self._ask()

    def _hears_of_loss(self, run: Run, node: Node) -> None:
        self._runs -= 1
        self.tally.reclaimed += 1
        self._handle(self.driver.died(run.job, node.host, node.ray_id))
        self._ask()
