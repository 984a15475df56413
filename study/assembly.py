"""A study put together: its phases over its ledger, and what all of its trials share."""

from collections.abc import Callable
from typing import Final

from rich.console import Console

from ftcl.data import VideoDataset
from study.agenda import Agenda
from study.estimate import count_trials
from study.fitness import software
from study.job import Setup
from study.ledger import Ledger
from study.phases import AblationPhase, ConfirmPhase, Phase, SearchPhase
from study.plan import Plan
from study.progress import Display, Tally, make_display
from study.search import Proposals
from study.seeds import SeedPool
from study.spec import Settings

CONTEXT: Final = "context"
"""Phase and stage of the trials that learn nothing."""

_MAX_DETAIL_VIDEOS: Final = 4
# That all trials together report, of those that decide nothing: each costs the driver some ms of Tune's loop.
_EPOCHS_PER_S: Final = 40.0


def assemble(
    plan: Plan, ledger: Ledger, concurrency: int, console: Console
) -> tuple[Agenda, AblationPhase, Display]:
    """Put a study together over its ledger: the agenda, its last phase, and the display that watches it."""
    space, recipe, goal = plan.space, plan.recipe, plan.goal
    phases, choose = _search_phases(plan, ledger)
    pool = SeedPool(plan.seeds.ablation, space.ablation.seeds, gated=space.gate is not None)
    ablating = AblationPhase(space, pool, choose)
    counts = count_trials(plan)
    totals = {
        "pretrain": counts.pretrains,
        "search": counts.search_trials,
        "confirm": counts.confirm_trials,
        "ablation": counts.ablation_trials,
    }
    tally = Tally(totals, goal.name, goal.direction, concurrency, recipe.stages[-1].name)
    for row in ledger.rows.values():
        if row.cell.phase != CONTEXT:
            tally.note(row)
    display = make_display(console, tally)
    agenda = Agenda(
        recipe,
        ledger,
        [*phases, ablating],
        fixed=space.fixed,
        goal=goal,
        keys=plan.keys,
        gate=space.gate,
        pretrain_early=space.shares_pretraining,
        has_export=plan.store.exists,
        policies=space.policies(),
        max_failures=plan.options.max_failures,
        retry_failed=plan.options.retry_failed,
        listener=display,
    )
    return agenda, ablating, display


def _search_phases(plan: Plan, ledger: Ledger) -> tuple[list[Phase], Callable[[], Settings]]:
    """Return the phases before the ablation, and what tells the settings that they chose."""
    space, goal, search = plan.space, plan.goal, plan.space.search
    if search is None:
        return [], dict
    proposals = Proposals(
        ledger.storage,
        ledger.study_id,
        search,
        space.active,
        direction=goal.direction,
        seed=plan.options.seed,
        defaults=space.defaults(plan.data.preset),
    )
    gated = space.gate is not None
    pool = SeedPool(plan.seeds.search, search.seeds, gated=gated)
    searching = SearchPhase(space, search, proposals, pool, goal, batched=plan.options.deterministic)
    pool = SeedPool(plan.seeds.confirm, search.confirm.seeds, gated=gated)
    confirming = ConfirmPhase(space, search.confirm.top, searching, pool, goal)
    return [searching, confirming], lambda: proposals.settings[confirming.winner()]


def make_setup(plan: Plan, gpus: list[float], concurrency: int) -> Setup:
    """Return what all trials of a plan share: `gpus` each of a stage holds, `concurrency` run at once."""
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
        num_threads=num_threads(plan),
        gpus=tuple(gpus),
        keep=plan.space.checkpoints.keep,
        every=plan.space.checkpoints.every,
        report_every_s=report_every_s(concurrency),
        max_seconds=tuple(
            None if hours is None else 3600 * hours
            for hours in (plan.space.resources_of(stage.name).max_hours for stage in plan.recipe.stages)
        ),
        software=software(),
    )


def report_every_s(concurrency: int) -> float:
    """Return for how long each of so many trials reports together what decides nothing."""
    return concurrency / _EPOCHS_PER_S


def num_threads(plan: Plan) -> int:
    """Return with how many threads every trial computes."""
    return max(plan.space.resources_of(stage.name).cpus for stage in plan.recipe.stages)


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
