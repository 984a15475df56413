"""Run a study: start or join a cluster, hand its trials out, leave its records."""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final

from rich.console import Console

from ftcl.evaluation import GroundTruth, encode_ground_truth
from ftcl.recipes import RECIPES
from study.agenda import Agenda
from study.assembly import CONTEXT, assemble, make_setup, num_threads
from study.checkup import require_fit_nodes
from study.disk import Ballast, check_disk, disk_full_message, folder_bytes, is_disk_full
from study.estimate import count_trials, estimate_disk
from study.fitness import missing_gpu
from study.ledger import Ledger, is_in
from study.ledger_copy import COPY, LedgerCopies, is_copied, restore_copy
from study.ledger_storage import Hold, LedgerError, LedgerLost, hold, open_storage
from study.manifest import memory_bytes, new_launch, source_digest, usable_cores, versions
from study.outcome import Outcome
from study.phases import AblationPhase, StudyError
from study.plan import LaunchError, Plan
from study.records import (
    EPOCHS,
    FAILURES,
    GROUND_TRUTH,
    MANIFEST,
    TRIALS,
    read_manifest,
    write_json,
    write_tables,
)
from study.refresh import Refresh
from study.rows import Cell, Row
from study.spec import Resources, Space
from study.stopping import Stops
from study.summary import find_trouble

_DISK_FULL: Final = "the disk is full"
Say = Callable[[str], None]


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

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    with _folder(plan), hold(plan.ledger, plan.study_id, say) as held:
        if plan.store.exists(MANIFEST) == plan.is_new:
            raise LaunchError(f"another process has just changed {plan.out}; give the command again")
        try:
            ledger = _open_ledger(plan, held)
        except (LedgerError, LedgerLost) as error:
            if plan.is_new:
                _leave_no_trace(plan)  # what it says of the ledger would stand against the corrected command
            if isinstance(error, LedgerLost):
                raise StudyError(str(error)) from error
            raise
        for note in held.notes:
            say(note)
        kept = sum(row.status in ("complete", "stopped") for row in _present(ledger))
        stops = None
        if plan.finished and _is_whole(plan, ledger, say):
            _update_manifest(plan, {})
            write_tables(plan.store, ledger.rows.values())
        else:
            try:
                stops = _run_trials(plan, ledger, held, kept, console, say)
            except BaseException as error:
                if plan.is_new and not ledger.rows:
                    _leave_no_trace(plan)
                if isinstance(error, LedgerLost):
                    raise StudyError(str(error)) from error
                raise
    rows = _present(ledger)
    pretrains = sum(row.cell.stage != plan.recipe.stages[-1].name for row in rows)
    return Outcome(
        finished=stops is None or stops.reason is None,
        stopped=None if stops is None else _why_stopped(plan, ledger, stops),
        exit_status=0 if stops is None else stops.exit_status,
        trials=Counter(row.status for row in rows),
        pretrains=pretrains,
        kept=0 if stops is None else kept,
        superseded=sum(row.superseded is not None for row in ledger.rows.values()),
        troubles=tuple(find_trouble(rows)),
        seconds=time.monotonic() - started_s,
    )


def _open_ledger(plan: Plan, held: Hold) -> Ledger:
    """Open the ledger; a new study's manifest is written first, so that a ledger alone is never found."""
    if plan.is_new:
        _update_manifest(plan, {})
    if plan.options.resume == "copy":
        held.notes.append(restore_copy(plan.ledger, plan.store))
    is_begun = bool(plan.manifest["launches"])
    is_gone = is_begun and plan.ledger.path is not None and not plan.ledger.path.exists()
    storage = None if is_gone else open_storage(plan.ledger, held)
    if storage is None or (is_begun and not is_in(storage, plan.study_id)):
        raise LedgerError(
            f"the ledger {plan.ledger} does not hold the study of {plan.out}: it was removed or replaced, or "
            f"lies on another machine. {_ways_out(plan)}, or begin anew with another --out; the tables there "
            "stay as they are"
        )
    return Ledger(storage, plan.study_id)


def _ways_out(plan: Plan) -> str:
    if is_copied(plan.ledger, plan.store) and plan.store.exists(COPY):
        return (
            "Go on where it lies; or, if that machine is gone for good, add --resume copy, which restores "
            "the copy beside the results"
        )
    return "Restore it from a copy"


def _is_whole(plan: Plan, ledger: Ledger, say: Say) -> bool:
    """Say whether the ledger of a finished study has all that it had at its end."""
    had = plan.manifest.get("trials", 0)
    unended = sum(row.status in ("running", "waiting") for row in ledger.rows.values())
    if len(ledger.rows) >= had and not unended:
        return True
    lost = had - len(ledger.rows) + unended
    say(f"the ledger {plan.ledger} has lost what it had of {lost} trials; they run again")
    return False


def _leave_no_trace(plan: Plan) -> None:
    """Take away what a new study has written before its first trial."""
    with suppress(OSError):
        for name in (MANIFEST, GROUND_TRUTH, TRIALS, EPOCHS, FAILURES):
            plan.store.delete(name)
        if plan.ledger.kind == "journal" and plan.ledger.path is not None:
            plan.ledger.path.unlink(missing_ok=True)


def _present(ledger: Ledger) -> list[Row]:
    rows = ledger.rows.values()
    return [row for row in rows if row.superseded is None and row.cell.phase != CONTEXT]


def _run_trials(plan: Plan, ledger: Ledger, held: Hold, kept: int, console: Console, say: Say) -> Stops:
    # Ray takes a second to import; a wrong flag, or a finished study, should not wait for it.
    from study.tune.environment import prepare_environment

    options = plan.options
    prepare_environment(options.address)
    from study.tune.cluster import connect
    from study.tune.probe import find_shares
    from study.tune.run import run_agenda

    wanted = _resources(plan.space)
    slots = options.concurrency or default_concurrency(plan.space)
    local_cpus = slots * max(resources.cpus for resources in wanted.values())
    with connect(options.address, local_cpus=local_cpus) as cluster:
        if options.address is not None:
            for warning in require_fit_nodes(plan):
                say(f"warning: {warning}")
        if options.gpus_per_trial == "auto":
            shares = find_shares(plan, cluster, wanted, say)
            granted, packing = cluster.grant(shares.wanted, None), shares.record
        else:
            granted, packing = cluster.grant(wanted, options.gpus_per_trial), None
        if options.address is None and (trouble := missing_gpu(max(g.gpus for g in granted.values()))):
            raise LaunchError(trouble)
        concurrency = options.concurrency or cluster.slots(granted.values())
        stages = [stage.name for stage in plan.recipe.stages]
        _announce(plan, ledger, kept, concurrency, say)
        _begin(plan, cluster.gpus, packing)
        agenda, ablation, display = assemble(plan, ledger, concurrency, console)
        setup = make_setup(plan, [granted[stage].gpus for stage in stages], concurrency)
        refresh = Refresh(lambda: _write_records(plan, ledger, agenda, ablation, finished=False))

        def check() -> None:
            held.check()
            refresh.poll()

        with (
            LedgerCopies(plan.ledger, plan.study_id, plan.store, say),
            Ballast(plan.store) as ballast,
            Stops(agenda, time_budget_s=plan.time_budget_s, check=check) as stops,
        ):
            finished = False
            try:
                with display:
                    run_agenda(agenda, setup, granted, stages, concurrency, stops=stops, waits=display.waits)
                if agenda.done:
                    _add_context(plan, ledger, agenda.pools["ablation"].used())
                    finished = True
            except (OSError, LedgerLost) as error:
                if not is_disk_full(error):
                    raise StudyError(str(error)) from error
                agenda.stop(_DISK_FULL)
                stops.poll()
            finally:
                ballast.release()
                _leave_in_order(plan, ledger, agenda, ablation, finished=finished)
    return stops


def _leave_in_order(
    plan: Plan, ledger: Ledger, agenda: Agenda, ablation: AblationPhase, *, finished: bool
) -> None:
    """Leave nothing running in the ledger, and the tables as it is; the next launch makes good what fails."""
    with suppress(OSError, LedgerLost):
        agenda.close()
        _write_records(plan, ledger, agenda, ablation, finished=finished)


def _why_stopped(plan: Plan, ledger: Ledger, stops: Stops) -> str | None:
    """Return why the launch ended before the study, with what the rest needs if the disk is full."""
    rows = _present(ledger)
    # Of a worker that found the disk full, its own words; an earlier launch may have left such trials too.
    full = {_DISK_FULL} | {f.message for row in rows for f in row.failures if f.kind == "disk_full"}
    if stops.reason not in full or plan.store.local is None:
        return stops.reason
    ended = sum(row.status not in ("running", "waiting") for row in rows)
    counts = count_trials(plan)
    left = counts.pretrains + counts.finetunes - ended
    return disk_full_message(plan.store.local, left, folder_bytes(plan.store.local) / max(ended, 1))


def _announce(plan: Plan, ledger: Ledger, kept: int, concurrency: int, say: Say) -> None:
    """Say what is kept, what is new and what the disk must hold, before the first trial starts."""
    if not plan.is_new:
        waiting = sum(row.status in ("running", "waiting") for row in _present(ledger))
        again = f", {waiting} go on from their checkpoints" if waiting else ""
        say(f"continuing {plan.out}: {kept} trials are kept (same settings, seed and data){again}")
    for line in plan.extension.lines:
        say(f"  {line}")
    former = (plan.manifest["launches"] or [plan.manifest])[-1]["versions"]
    differing = [
        f"{name} {former.get(name)} → {now}" for name, now in versions().items() if former.get(name) != now
    ]
    if differing and kept:
        say(f"  kept trials ran with other versions: {', '.join(differing)}")
    if kept and any(
        launch.get("source") not in (None, source_digest()) for launch in plan.manifest["launches"]
    ):
        say("  kept trials ran with other code (the digest `source` of each launch in manifest.json)")
    disk = estimate_disk(plan, concurrency, kept)
    warning = check_disk(plan.store.free_bytes(), disk.bytes, disk.one_round_bytes, plan.out)
    if warning is not None:
        say(warning)


def _resources(space: Space) -> dict[str, Resources]:
    return {stage.name: space.resources_of(stage.name) for stage in RECIPES[space.recipe].stages}


@contextmanager
def _folder(plan: Plan) -> Iterator[None]:
    """Make the study's folder; an empty one is not left behind."""
    folder = plan.store.local
    made = [] if folder is None else [path for path in (folder, *folder.parents) if not path.exists()]
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with suppress(OSError):
            for path in made:
                path.rmdir()


def _begin(plan: Plan, gpus: float, packing: dict[str, object] | None = None) -> None:
    """Write down what is run, before the first trial; `packing`: what trials take of a GPU, if measured."""
    launch = {**new_launch(plan.extension.lines, num_threads(plan)), "packing": packing}
    hardware = {**plan.manifest["hardware"], "gpus": gpus} if plan.is_new else plan.manifest["hardware"]
    _update_manifest(plan, {"hardware": hardware, "launches": [*plan.manifest["launches"], launch]})
    if read_manifest(plan.store)["id"] != plan.study_id:
        raise LaunchError(f"another process has begun a study in {plan.out} too; choose another --out")
    ground_truth = GroundTruth.from_videos(plan.data.ground_truth("test"), plan.data.classes)
    plan.store.write(GROUND_TRUTH, encode_ground_truth(ground_truth, "test"))


def _update_manifest(plan: Plan, changes: dict[str, object]) -> None:
    """Write the manifest as this launch understands the study, keeping what the records have added to it."""
    recorded = read_manifest(plan.store) if plan.store.exists(MANIFEST) else {}
    write_json(plan.store, MANIFEST, {**recorded, **plan.manifest, **changes})


def _add_context(plan: Plan, ledger: Ledger, seeds: Sequence[int]) -> None:
    """Enter what detections without learning are worth on the test videos, once for each ablation seed."""
    present = {row.cell: row for row in ledger.rows.values()}
    for seed in seeds:
        for arm, metrics in plan.recipe.context(plan.data, "test", seed).items():
            cell = Cell(CONTEXT, CONTEXT, seed, arm=arm)
            row = present.get(cell) or ledger.start(cell, {})
            result = {"metrics": {f"test/{name}": value for name, value in metrics.items()}}
            ledger.end(row.trial, "complete", result=result)


def _write_records(
    plan: Plan, ledger: Ledger, agenda: Agenda, ablation: AblationPhase, *, finished: bool
) -> None:
    """Derive the tables from the ledger, and complete the manifest with what the study chose."""
    write_tables(plan.store, ledger.rows.values())
    seeds = {
        name: {"ungated": pool.ungated, "gated": pool.chosen() if pool.gated else None}
        for name, pool in agenda.pools.items()
    }
    chosen = {
        "seeds": seeds,
        "winner": None if plan.space.search is None else ablation.settings,
        "finished": finished,
        "trials": len(ledger.rows),
    }
    write_json(plan.store, MANIFEST, {**read_manifest(plan.store), **chosen})
