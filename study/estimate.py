"""What a study will cost, before it starts: trials, pretrainings, hours, disk."""

import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import torch
from rich.console import Group, RenderableType
from rich.table import Table

from ftcl.recipes.config import configure
from ftcl.recipes.protocol import with_protocol
from ftcl.training.device import choose_device
from ftcl.training.stage import Stage
from study import design
from study.plan import Plan
from study.progress import show_duration
from study.records import TRIALS, read_table
from study.spec import Settings

_LOOK_S = 3.0
_OTHER_BYTES = 100_000  # a trial's predictions, curves and lines of the ledger


@dataclass(frozen=True)
class StageCost:
    """What one trial of a stage costs on this machine."""

    name: str
    epochs: int
    seconds: float


@dataclass(frozen=True)
class Cost:
    """What a study costs at the most; stopped trials make it less."""

    counts: design.Estimate
    stages: tuple[StageCost, ...]
    concurrency: int
    disk: "Disk"
    kept: int
    changes: tuple[str, ...]  # what is asked beyond what the study in OUT was asked before

    @property
    def seconds(self) -> float:
        """Wall time with all slots busy."""
        return sum(self._trials(stage) * stage.seconds for stage in self.stages) / self.concurrency

    def _trials(self, stage: StageCost) -> int:
        return self.counts.finetunes if stage is self.stages[-1] else self.counts.pretrains

    def render(self) -> RenderableType:
        """Draw the costs as a table."""
        counts = self.counts
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(justify="right")
        table.add_column()
        if counts.pretrains:
            table.add_row(str(counts.pretrains), "pretrainings, each shared by all trials that need it")
        if counts.proposals:
            table.add_row(str(counts.search_trials), f"search trials, of {counts.proposals} proposals")
            table.add_row(str(counts.confirm_trials), "confirmation trials")
        table.add_row(str(counts.ablation_trials), "ablation trials")
        if counts.gate_pretrains:
            table.add_row(
                f"+{counts.gate_pretrains}",
                f"pretrainings and {counts.gate_trials} trials at most, for the gate",
            )
        elif counts.gate_trials:
            table.add_row(f"+{counts.gate_trials}", "trials at most, for the gate")
        table.add_row(
            show_duration(self.seconds),
            f"about, on {self.concurrency} cores that do nothing else, without early stopping",
        )
        table.add_row(f"{self.disk.bytes / 1e9:.2f} GB", "of disk at the most")
        if self.kept:
            table.add_row(str(self.kept), "trials of this study are there already, and are not run again")
        lines = [f"one {stage.name}: {stage.epochs} epochs, {stage.seconds:.1f} s" for stage in self.stages]
        return Group(*self.changes, table, f"measured here, from some steps of each; {'; '.join(lines)}")


@dataclass(frozen=True)
class Disk:
    """What the trials that are still to run leave on the disk."""

    bytes: int
    one_round_bytes: int  # of one trial in every slot, with all the checkpoints that it keeps while it runs


def estimate_disk(plan: Plan, concurrency: int, kept: int) -> Disk:
    """Estimate the disk that a study still needs, `kept` of its trials being there; trains nothing."""
    counts = count_trials(plan)
    sizes = [4 * size + _OTHER_BYTES for size in _weights_bytes(plan)]
    total = counts.pretrains * sum(sizes[:-1]) + counts.finetunes * sizes[-1]
    left = max(0.0, 1 - kept / (counts.pretrains + counts.finetunes))
    one_round = concurrency * plan.space.checkpoints.keep * max(sizes)
    return Disk(int(total * left) + one_round, one_round)


def _weights_bytes(plan: Plan) -> list[int]:
    """Size of each stage's weights; a checkpoint has them, Adam's two moments of them, and the best ones."""
    config = configure(plan.recipe, plan.data.preset, design.trial_parameters(plan.space, {}))
    sizes, weights = [], None
    for spec in plan.recipe.stages:
        weights = spec.build(config, plan.data, torch.device("cpu"), 0, weights).export()
        sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in weights.values()))
    return sizes


def count_trials(plan: Plan) -> design.Estimate:
    """Return how many trials a study has at the most, and how many pretrainings they share."""
    last = len(plan.recipe.stages) - 1

    def key(settings: Settings, seed: int) -> str | None:
        return plan.keys.export(settings, last - 1, seed)

    return design.estimate(plan.space, plan.seeds, key)


def estimate_cost(plan: Plan, concurrency: int) -> Cost:
    """Measure some steps and one evaluation of each stage on this machine, and multiply."""
    torch.set_num_threads(1)
    defaults = plan.space.defaults(plan.data.preset)
    config = with_protocol(
        configure(plan.recipe, plan.data.preset, design.trial_parameters(plan.space, defaults)),
        plan.options.protocol,
    )
    stages = []
    weights = None
    for spec in plan.recipe.stages:
        stage = spec.build(config, plan.data, choose_device(), plan.seeds.search(1)[0], weights)
        scored = "validation" if plan.data.splits["validation"] else "test"
        weights = stage.export()
        epoch_s = _time_epoch(stage)
        started_s = time.perf_counter()
        stage.evaluate(scored)
        evaluation_s = time.perf_counter() - started_s
        evaluations = stage.epochs if spec.selects_epoch else 1
        seconds = stage.epochs * epoch_s + evaluations * evaluation_s
        stages.append(StageCost(spec.name, stage.epochs, seconds))
    kept = _kept(plan)
    disk = estimate_disk(plan, concurrency, kept)
    return Cost(count_trials(plan), tuple(stages), concurrency, disk, kept, plan.extension.lines)


def _kept(plan: Plan) -> int:
    """How many trials the records of the study show as ended; nothing is locked for it."""
    if plan.is_new or not plan.store.exists(TRIALS):
        return 0
    trials = read_table(plan.store, TRIALS)
    ended = pc.is_in(trials["status"], pa.array(["complete", "stopped"]))
    counted = pc.and_(ended, pc.is_null(trials["superseded"]))
    return int(pc.sum(pc.and_(counted, pc.not_equal(trials["phase"], "context"))).as_py() or 0)


def _time_epoch(stage: Stage) -> float:
    """Return the seconds of an epoch, from as many of its steps as a short look allows."""
    num_steps, steps = stage.start_epoch()
    next(steps)  # the first step pays for what later ones find ready
    if num_steps == 1:
        _, steps = stage.start_epoch()
    started_s, taken = time.perf_counter(), 0
    for _ in steps:
        taken += 1
        if time.perf_counter() - started_s > _LOOK_S:
            break
    return num_steps * (time.perf_counter() - started_s) / taken
