"""The three phases of a study, each saying which trials it wants next.

    search      every proposal on every search seed; runs stopped early on validation
    confirm     the best proposals again on further seeds; the highest mean over all its seeds wins
    ablation    every arm, on the winner's settings, on the same fresh seeds; nothing is stopped early

A space without a search has the ablation alone, on the recipe's defaults.

A phase is told every epoch and end of its trials, and otherwise knows neither processes nor files.
"""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from study.design import ablation_cells, rank_proposals, should_stop, trial_parameters, winner
from study.goal import Goal
from study.rows import Row
from study.rungs import Rung
from study.search import Proposals, mean_curve
from study.seeds import SeedPool
from study.spec import Gate, Search, Space


class StudyError(Exception):
    """The study cannot go on: nothing is left to choose from."""


@dataclass(frozen=True)
class Wanted:
    """A trial that a phase wants: its place in the design, and its settings on top of the defaults."""

    phase: str
    seed: int
    parameters: Mapping[str, Any]
    arm: str | None = None
    proposal: int | None = None


class Phase(ABC):
    """A part of the study with trials of its own."""

    name: str
    pool: SeedPool
    rungs: tuple[int, ...] = ()  # epochs after which `stops` may say so

    @abstractmethod
    def wanted(self) -> list[Wanted]:
        """Return what is to start now and has not been wanted before."""

    @abstractmethod
    def exhausted(self) -> bool:
        """Say whether nothing more will be wanted, however the running trials end."""

    def ended(self, row: Row) -> None:  # noqa: B027 - only a search has something to learn from an end
        """Take note of a trial that ended."""

    def stops(self, row: Row, epoch: int) -> bool:
        """Say whether a trial is to stop after this epoch."""
        return False

    def close(self) -> None:  # noqa: B027 - only a search has something open
        """Leave nothing open in the ledger."""


class SearchPhase(Phase):
    """Optuna proposes; every proposal runs on every seed; weak runs stop at rungs.

    A rung compares runs of the same seed only, since the spread between seeds exceeds the effects sought.
    If `batched`, a proposal and a rung see whole earlier batches and nothing else, so that neither depends on
    timing; without, they see all that the ledger holds.
    """

    name = "search"

    def __init__(
        self,
        space: Space,
        search: Search,
        proposals: Proposals,
        pool: SeedPool,
        goal: Goal,
        *,
        batched: bool,
    ) -> None:
        self.proposals = proposals
        self.pool = pool
        self._space = space
        self._spec = search
        self._goal = goal
        self._batch = search.batch if batched else None
        self._wanted = 0
        self.rungs = () if search.early_stopping is None else search.early_stopping.rungs
        sign = 1.0 if goal.direction == "max" else -1.0
        self._standings: dict[tuple[int, int], Rung] = defaultdict(lambda: Rung(sign, self._batch))
        self._ended: dict[int, dict[int, Row]] = defaultdict(dict)
        self._untold: set[int] = set()  # proposals of which runs have ended that the sampler was not told of

    def wanted(self) -> list[Wanted]:
        self._tell()
        seeds = self.pool.chosen()
        if seeds is None or self.exhausted():
            return []
        if not seeds:
            raise StudyError("no search seed passed the gate; lower gate.at_least in the space file")
        known = len(self.proposals.settings)
        if self._batch is None:
            if self._wanted == known:
                self.proposals.ask()
        elif known % self._batch or (self._wanted == known and not self.proposals.any_open()):
            # A batch that a crash cut short is completed first, before any of its trials goes on.
            for _ in range(min(self._batch - known % self._batch, self._spec.trials - known)):
                self.proposals.ask()
        fresh = range(self._wanted, len(self.proposals.settings))
        self._wanted = len(self.proposals.settings)
        return [
            Wanted(
                self.name,
                seed,
                trial_parameters(self._space, self.proposals.settings[number]),
                proposal=number,
            )
            for number in fresh
            for seed in seeds
        ]

    def exhausted(self) -> bool:
        return self._wanted >= self._spec.trials

    def stops(self, row: Row, epoch: int) -> bool:
        rule = self._spec.early_stopping
        if rule is None or epoch not in self.rungs or row.cell.proposal is None:
            return False
        rung = self._standings[row.cell.seed, epoch]
        rung.put(row.cell.proposal, self._goal.curve(row)[epoch])
        return should_stop(*rung.standing(row.cell.proposal), epoch, rule)

    def ended(self, row: Row) -> None:
        number = row.cell.proposal
        if number is not None:
            self._ended[number][row.cell.seed] = row
            self._untold.add(number)
            self._tell()

    def _tell(self) -> None:
        """Tell the sampler what proposals were worth whose runs have all ended."""
        seeds = self.pool.chosen()
        if seeds is None:
            return  # a model that had passed the gate was removed, and is made again
        for number in sorted(self._untold):
            runs = self._ended[number]
            if set(runs) < set(seeds):
                continue
            self._untold.remove(number)
            if self.proposals.is_open(number):
                curves = [self._goal.curve(run) for run in runs.values()]
                self.proposals.tell(number, self.mean(number), mean_curve(curves))

    def close(self) -> None:
        self.proposals.close()

    def mean(self, number: int) -> float | None:
        """Return a proposal's mean objective over the search seeds.

        None unless all its runs are complete with a number: nothing could be ranked beside NaN.
        """
        runs = self._ended[number].values()
        if not runs or any(run.status != "complete" for run in runs):
            return None
        mean = fmean(self.values(number))
        return None if math.isnan(mean) else mean

    def ranking(self) -> list[int]:
        """Return the complete proposals, best first."""
        values = {number: self.values(number) for number in self._ended if self.mean(number) is not None}
        return rank_proposals(values, self._goal.direction)

    def values(self, number: int) -> list[float]:
        """Return a complete proposal's objective on each search seed."""
        runs = self._ended[number]
        return [runs[seed].result["metrics"][self._goal.name] for seed in sorted(runs)]


class ConfirmPhase(Phase):
    """The best proposals of the search again, on seeds that the search has not seen."""

    name = "confirm"

    def __init__(self, space: Space, top: int, search: SearchPhase, pool: SeedPool, goal: Goal) -> None:
        self.pool = pool
        self._space = space
        self._top = top
        self._search = search
        self._goal = goal
        self._candidates: list[int] | None = None
        self._values: dict[int, list[float]] = defaultdict(list)

    def wanted(self) -> list[Wanted]:
        seeds = self.pool.chosen()
        if seeds is None or self._candidates is not None:
            return []
        self._candidates = self._search.ranking()[: self._top]
        if not self._candidates:
            raise StudyError(
                "no proposal of the search ran to its end on every search seed; trials.parquet says why they "
                "failed: mend the cause and start again with another --out"
            )
        settings = self._search.proposals.settings
        return [
            Wanted(self.name, seed, trial_parameters(self._space, settings[number]), proposal=number)
            for number in self._candidates
            for seed in seeds
        ]

    def exhausted(self) -> bool:
        return self._candidates is not None

    def ended(self, row: Row) -> None:
        if row.status == "complete" and row.cell.proposal is not None:
            self._values[row.cell.proposal].append(row.result["metrics"][self._goal.name])

    def winner(self) -> int:
        """Return the candidate with the best mean over its search and confirmation seeds."""
        assert self._candidates is not None
        values = {number: self._search.values(number) + self._values[number] for number in self._candidates}
        return winner(values, self._goal.direction)


class AblationPhase(Phase):
    """Every arm on every seed, all arms of a seed starting from the same pretrained model.

    With a gate, the first seeds run whether they pass or not, beside those that pass, so that both results
    exist. A recipe of one stage trains nothing before the arms that a gate could judge: there a seed passes
    if the models of all its arms do, so that no arm is favoured by the choice of seeds.
    """

    name = "ablation"

    def __init__(
        self,
        space: Space,
        pool: SeedPool,
        settings: Callable[[], Mapping[str, Any]],
    ) -> None:
        self.pool = pool
        self.settings: Mapping[str, Any] | None = None  # the winner's, once the phases before have ended
        self._space = space
        self._choose = settings
        self._wanted: set[int] = set()
        self._gate = space.gate if len(space.stages) == 1 else None
        self._passed: dict[int, dict[str, bool]] = defaultdict(dict)

    def wanted(self) -> list[Wanted]:
        if self.settings is None:
            self.settings = self._choose()
        candidates = dict.fromkeys((*self.pool.used(), *(self.pool.undecided() if self._gate else ())))
        seeds = [seed for seed in candidates if seed not in self._wanted]
        self._wanted.update(seeds)
        arms = self._space.ablation.arms
        return [
            Wanted(self.name, seed, trial_parameters(self._space, self.settings, arms[arm]), arm=arm)
            for arm, seed in ablation_cells(self._space, seeds)
        ]

    def exhausted(self) -> bool:
        return self.pool.chosen() is not None and self._wanted.issuperset(self.pool.used())

    def ended(self, row: Row) -> None:
        if self._gate is None or row.cell.arm is None:
            return
        of_seed = self._passed[row.cell.seed]
        of_seed[row.cell.arm] = passes(row, self._gate)
        if all(arm in of_seed for arm in self._space.ablation.arms):
            self.pool.record(row.cell.seed, all(of_seed[arm] for arm in self._space.ablation.arms))


def passes(row: Row, gate: Gate) -> bool:
    """Say whether the model of a trial that has ended reaches what the gate asks for on validation."""
    value = row.result.get("metrics", {}).get(f"validation/{gate.metric}", -math.inf)
    return row.status == "complete" and bool(value >= gate.at_least)
