"""Run a study: start or join a cluster, hand its trials out, leave its records."""

import fcntl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from rich.console import Console

from ftcl.data import VideoDataset
from ftcl.evaluation import GroundTruth, write_ground_truth
from ftcl.recipes import RECIPES
from study.agenda import Agenda, Identity
from study.estimate import count_trials
from study.job import Setup
from study.ledger import Ledger
from study.manifest import memory_bytes, usable_cores
from study.phases import AblationPhase, ConfirmPhase, SearchPhase
from study.plan import LOCK, LaunchError, Plan
from study.progress import Display, Tally, make_display, show_duration
from study.records import GROUND_TRUTH, MANIFEST, read_manifest, write_json, write_tables
from study.rows import Cell
from study.search import Proposals
from study.seeds import SeedPool
from study.spec import Resources, Space

_CONTEXT: Final = "context"  # phase and stage of the trials that learn nothing
_MAX_DETAIL_VIDEOS: Final = 4


@dataclass(frozen=True)
class Outcome:
    """How a launch ended."""

    finished: bool
    trials: Counter[str]  # by status, of all trials of the study
    pretrains: int  # how many of them trained a model for the others to start from
    seconds: float  # of this launch

    def summary(self) -> str:
        """Return the launch in a line."""
        trials = self.trials
        return (
            f"{trials.total()} trials: {trials['complete']} complete, {trials['stopped']} stopped early, "
            f"{trials['failed']} failed; {self.pretrains} pretrained models shared by "
            f"{trials.total() - self.pretrains} trials; {show_duration(self.seconds)}"
        )


def default_concurrency(space: Space) -> int:
    """Return how many trials this machine runs at once: what its cores and its memory hold."""
    wanted = _resources(space).values()
    by_cores = usable_cores() // max(resources.cpus for resources in wanted)
    by_memory = int(memory_bytes() / 1e9 / max(resources.memory_gb for resources in wanted))
    return max(1, min(by_cores, by_memory))


def run(plan: Plan, console: Console) -> Outcome:
    """Run the trials that the study still lacks, then derive its records; if it is finished, only those.

    Raises LaunchError before the first trial, StudyError when nothing is left to go on with.
    """
    started_s = time.monotonic()
    with _hold(plan):
        if plan.finished:
            ledger, finished = Ledger(plan.out), True
            write_tables(plan.out, ledger.rows.values())
        else:
            ledger, finished = _run_trials(plan, console)
    rows = [row for row in ledger.rows.values() if row.cell.phase != _CONTEXT]
    pretrains = sum(row.cell.stage != plan.recipe.stages[-1].name for row in rows)
    statuses: Counter[str] = Counter(row.status for row in rows)
    return Outcome(finished, statuses, pretrains, time.monotonic() - started_s)


def _run_trials(plan: Plan, console: Console) -> tuple[Ledger, bool]:
    # Ray takes a second to import; a wrong flag, or a finished study, should not wait for it.
    from study.tune.environment import prepare_environment

    options = plan.options
    prepare_environment(options.address)
    from study.tune.cluster import connect
    from study.tune.run import run_agenda

    wanted = _resources(plan.space)
    slots = options.concurrency or default_concurrency(plan.space)
    local_cpus = slots * max(resources.cpus for resources in wanted.values())
    with connect(options.address, local_cpus=local_cpus) as cluster:
        granted = cluster.grant(wanted, options.gpus_per_trial)
        concurrency = options.concurrency or cluster.slots(granted.values())
        stages = [stage.name for stage in plan.recipe.stages]
        _begin(plan, cluster.gpus)
        ledger = Ledger(plan.out)
        agenda, ablation, display = assemble(plan, ledger, concurrency, console)
        setup = make_setup(plan, [granted[stage].gpus for stage in stages])
        finished = False
        try:
            with display:
                run_agenda(agenda, setup, granted, stages, concurrency)
            if agenda.done:
                _add_context(plan, ledger, agenda.pools["ablation"].used())
                finished = True
        finally:
            _write_records(plan, ledger, agenda, ablation, finished=finished)
    return ledger, finished


def _resources(space: Space) -> dict[str, Resources]:
    return {stage.name: space.resources_of(stage.name) for stage in RECIPES[space.recipe].stages}


def make_setup(plan: Plan, gpus: list[float]) -> Setup:
    """Return what all trials of a plan share; `gpus` is what a trial of each stage holds."""
    return Setup(
        out=plan.out,
        recipe=plan.recipe.name,
        data=plan.data.spec,
        fold=plan.options.fold,
        data_seed=plan.options.data_seed,
        fingerprint=plan.data.fingerprint,
        protocol=plan.options.protocol,
        metric=plan.space.objective.metric,
        deterministic=plan.options.deterministic,
        detail_videos=detail_videos(plan.data),
        num_threads=max(plan.space.resources_of(stage.name).cpus for stage in plan.recipe.stages),
        gpus=tuple(gpus),
    )


@contextmanager
def _hold(plan: Plan) -> Iterator[None]:
    """Keep other drivers off the study's folder; leave no folder behind if no study was begun in it."""
    made = [folder for folder in (plan.out, *plan.out.parents) if not folder.exists()]
    plan.out.mkdir(parents=True, exist_ok=True)
    path = plan.out / LOCK
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LaunchError(
                f"another process runs the study in {plan.out}; wait for it, or choose another --out"
            ) from error
        if (plan.out / MANIFEST).exists() == plan.is_new:
            raise LaunchError(f"another process has just changed {plan.out}; give the command again")
        try:
            yield
        finally:
            if not (plan.out / MANIFEST).exists():
                path.unlink()
                for folder in made:
                    folder.rmdir()


def _begin(plan: Plan, gpus: float) -> None:
    """Write down what is run, before the first trial."""
    if plan.is_new:
        hardware = {**plan.manifest["hardware"], "gpus": gpus}
        write_json(plan.out / MANIFEST, {**plan.manifest, "hardware": hardware})
    ground_truth = GroundTruth.from_videos(plan.data.ground_truth("test"), plan.data.classes)
    write_ground_truth(plan.out / GROUND_TRUTH, ground_truth, "test")


def assemble(
    plan: Plan, ledger: Ledger, concurrency: int, console: Console
) -> tuple[Agenda, AblationPhase, Display]:
    """Put a study together over its ledger: the agenda, its last phase, and the display that watches it."""
    space, recipe, goal = plan.space, plan.recipe, plan.goal
    search, gated = space.search, space.gate is not None
    pools = {
        "search": SeedPool(plan.seeds.search, search.seeds, gated=gated),
        "confirm": SeedPool(plan.seeds.confirm, search.confirm.seeds, gated=gated),
        "ablation": SeedPool(plan.seeds.ablation, space.ablation.seeds, gated=gated),
    }
    proposals = Proposals(
        ledger.storage,
        search,
        space.active,
        direction=goal.direction,
        seed=plan.options.seed,
        defaults=space.defaults(plan.data.preset),
    )
    searching = SearchPhase(space, proposals, pools["search"], goal, batched=plan.options.deterministic)
    confirming = ConfirmPhase(space, searching, pools["confirm"], goal)
    ablating = AblationPhase(space, pools["ablation"], lambda: proposals.settings[confirming.winner()])
    counts = count_trials(plan)
    totals = {
        "pretrain": counts.pretrains,
        "search": counts.search_trials,
        "confirm": counts.confirm_trials,
        "ablation": counts.ablation_trials,
    }
    tally = Tally(totals, goal.name, goal.direction, concurrency, recipe.stages[-1].name)
    for row in ledger.rows.values():
        if row.cell.phase != _CONTEXT:
            tally.note(row)
    display = make_display(console, tally)
    agenda = Agenda(
        recipe,
        ledger,
        [searching, confirming, ablating],
        fixed=space.fixed,
        goal=goal,
        identity=Identity(plan.data.preset, plan.data.fingerprint, plan.options.deterministic),
        gate=space.gate,
        pretrain_early=space.shares_pretraining,
        listener=display,
    )
    return agenda, ablating, display


def _add_context(plan: Plan, ledger: Ledger, seeds: Sequence[int]) -> None:
    """Enter what detections without learning are worth on the test videos, once for each ablation seed."""
    present = {row.cell: row for row in ledger.rows.values()}
    for seed in seeds:
        for arm, metrics in plan.recipe.context(plan.data, "test", seed).items():
            cell = Cell(_CONTEXT, _CONTEXT, seed, arm=arm)
            row = present.get(cell) or ledger.start(cell, {})
            result = {"metrics": {f"test/{name}": value for name, value in metrics.items()}}
            ledger.end(row.trial, "complete", result=result)


def _write_records(
    plan: Plan, ledger: Ledger, agenda: Agenda, ablation: AblationPhase, *, finished: bool
) -> None:
    """Derive the tables from the ledger, and complete the manifest with what the study chose."""
    write_tables(plan.out, ledger.rows.values())
    seeds = {
        name: {"ungated": pool.ungated, "gated": pool.chosen() if pool.gated else None}
        for name, pool in agenda.pools.items()
    }
    chosen = {"seeds": seeds, "winner": ablation.settings, "finished": finished}
    write_json(plan.out / MANIFEST, {**read_manifest(plan.out), **chosen})


def detail_videos(data: VideoDataset) -> tuple[str, ...]:
    """Return a fixed handful of test videos to look at: pairs that share their only class come first."""
    names = sorted(data.splits["test"])
    chosen: list[str] = []
    for label in range(len(data.classes)):
        of_class = [name for name in names if data.videos[name].labels == (label,)]
        if len(of_class) >= 2:
            chosen += of_class[:2]
    others = [name for name in names if name not in chosen]
    return tuple((chosen + others)[:_MAX_DETAIL_VIDEOS])
