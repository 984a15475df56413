"""What a study cost and what it was spent on; pretraining shared, as it ran, and as it would be without."""

from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from analysis._text import decimals, number
from analysis.load import Study
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table

_UNITS: Final = ((2 * 3600.0, "h", 3600.0), (2 * 60.0, "min", 60.0), (0.0, "s", 1.0))  # from, name, seconds
_SAVED: Final = "saved by sharing"
_ONE_MORE: Final = "one more ablation seed"
_PHASES: Final = {"search": "search", "confirm": "confirmation", "ablation": "ablation"}


class _Item(NamedTuple):
    """What is added up in one row, and the trials that say so."""

    section: str
    label: str
    trials: pd.DataFrame
    wall_s: float
    cpu_s: float
    gpu_s: float
    in_total: bool = True
    counts: bool = True  # its trials, which a consequence or a loss only rests on


def cost_table(*studies: Study) -> Table:
    """Return trials and time by part of a study; several studies stand side by side.

    Raises NothingToShow if no trial has spent any time yet.
    """
    return side_by_side(studies, _table)


def _table(study: Study) -> Table:
    items = list(_items(study))
    spent = [item for item in items if item.in_total]
    total = sum(item.wall_s for item in spent)
    if not total > 0:
        raise NothingToShow("no trial has spent any time")
    unit, seconds = next((name, size) for least, name, size in _UNITS if total >= least)
    uses_gpu = any(item.gpu_s > 0 for item in spent)
    times = ["wall_s", "cpu_s", *(["gpu_s"] if uses_gpu else [])]
    digits = {name: decimals(pd.Series([getattr(item, name) / seconds for item in items])) for name in times}
    whole = pd.concat([item.trials for item in spent if item.counts])
    every = tuple(int(trial) for trial in whole["trial"])
    each_digits = decimals(pd.Series([i.wall_s / len(i.trials) for i in items if i.counts]))

    def row(item: _Item) -> Row:
        numbers = tuple(int(trial) for trial in item.trials["trial"])
        cells = [Cell(item.label)]
        cells.append(Cell(str(len(numbers)), len(numbers), numbers) if item.counts else Cell(""))
        for name in times:
            value = getattr(item, name)
            missing = None if np.isfinite(value) else "not recorded for these"
            text = "" if missing else number(value / seconds, digits[name])
            cells.append(Cell(text, None if missing else value, numbers, missing))
        part = item.wall_s / total
        share = Cell(f"{100 * part:.1f}", part, every) if item.in_total else Cell("")
        each = item.wall_s / len(numbers) if item.counts else None
        cells += [share, Cell("") if each is None else Cell(f"{each:.{each_digits}f}", each, numbers)]
        return Row(tuple(cells), item.section)

    heads = {"wall_s": "wall", "cpu_s": "CPU", "gpu_s": "GPU"}
    wall, cpu, gpu = (float(np.nansum(column)) for column in zip(*(item[3:6] for item in spent), strict=True))
    together = _Item("together", "total", whole, wall, cpu, gpu)
    return Table(
        name="cost",
        title=f"Cost: {study.name} on {study.data}",
        columns=(
            Column("part", align="left"),
            Column("trials"),
            *(Column(f"{heads[name]} ({unit})") for name in times),
            Column("share (%)"),
            Column("each (s)"),
        ),
        rows=tuple(row(item) for item in (*spent, together, *(i for i in items if not i.in_total))),
        long=_long(items),
        notes=tuple(_notes(study, items, uses_gpu, total)),
    )


def _items(study: Study) -> Iterator[_Item]:
    trials = study.trials
    is_model = trials["arm"].isna() & trials["proposal"].isna()
    models, runs = trials[is_model], trials[~is_model]
    for phase, name in _PHASES.items():
        part = models[models["phase"] == phase]
        if len(part):
            yield _item("pretraining, shared", f"for the {name}", part)
    for phase in ("search", "confirm"):
        part = runs[runs["phase"] == phase]
        for status in part["status"].drop_duplicates():
            label = f"{_PHASES[phase]}, {'stopped early' if status == 'stopped' else status}"
            yield _item("fine-tuning" if len(models) else "training", label, part[part["status"] == status])
    ablation = runs[runs["phase"] == "ablation"]
    for arm in study.arms:
        part = ablation[ablation["arm"] == arm]
        if len(part):
            yield _item("ablation, by arm", arm, part)
    context = runs[runs["phase"] == "context"]
    if len(context):
        yield _item("other", "without training", context)
    if len(study.superseded):
        yield _item("other", "trials that no longer count", study.superseded)
    failures = study.failures()
    lost = float(failures["lost_s"].sum()) if len(failures) else 0.0
    if lost > 0:
        interrupted = trials[trials["trial"].isin(failures.loc[failures["lost_s"] > 0, "trial"])]
        yield _Item("other", "lost in interrupted attempts", interrupted, lost, np.nan, np.nan, counts=False)
    yield from _consequences(study, models, runs)


def _consequences(study: Study, models: pd.DataFrame, runs: pd.DataFrame) -> Iterator[_Item]:
    cost = models.groupby("pretrain_key")[["wall_s", "cpu_s", "gpu_s"]].sum()
    needed = runs[runs["pretrain_key"].isin(cost.index) & runs["phase"].isin(list(_PHASES))]
    if len(needed) > len(cost):
        unshared = cost.reindex(needed["pretrain_key"]).sum()
        saved = unshared - cost.sum()
        behind = pd.concat([models[models["pretrain_key"].isin(cost.index)], needed])
        yield _Item("together", _SAVED, behind, *_figures(saved), in_total=False, counts=False)
    complete = runs[(runs["phase"] == "ablation") & (runs["status"] == "complete")]
    seeds = complete.groupby("seed")["arm"].nunique()
    whole = complete[complete["seed"].isin(seeds[seeds == len(study.arms)].index)]
    if len(whole):
        per_seed = whole.groupby("seed")[["wall_s", "cpu_s", "gpu_s"]].sum()
        per_seed = per_seed.add(_pretraining_of(whole, cost), fill_value=0.0)
        behind = pd.concat([models[models["pretrain_key"].isin(whole["pretrain_key"])], whole])
        yield _Item("together", _ONE_MORE, behind, *_figures(per_seed.mean()), in_total=False, counts=False)


def _pretraining_of(runs: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """Return by seed what its pretrained models cost."""
    pairs = runs[["seed", "pretrain_key"]].drop_duplicates().dropna()
    return pairs.join(cost, on="pretrain_key").groupby("seed")[["wall_s", "cpu_s", "gpu_s"]].sum()


def _item(section: str, label: str, trials: pd.DataFrame) -> _Item:
    return _Item(section, label, trials, *_figures(trials[["wall_s", "cpu_s", "gpu_s"]].sum()))


def _figures(sums: pd.Series) -> tuple[float, float, float]:
    return float(sums["wall_s"]), float(sums["cpu_s"]), float(sums["gpu_s"])


def _long(items: list[_Item]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "section": [item.section for item in items],
            "part": [item.label for item in items],
            "trials": [len(item.trials) if item.counts else 0 for item in items],
            **{name: [getattr(item, name) for item in items] for name in ("wall_s", "cpu_s", "gpu_s")},
            "in_total": [item.in_total for item in items],
        }
    )


def _notes(study: Study, items: list[_Item], uses_gpu: bool, total: float) -> Iterator[str]:
    yield "wall: seconds inside the trials, added up over all that ran at the same time (slot hours)."
    if uses_gpu:
        yield "GPU: wall time × the share of a GPU that the trial held."
    else:
        yield "No GPU was used."
    labels = [item.label for item in items]
    if _SAVED in labels:
        yield (
            f"{_SAVED}: what it would have cost if every trial had pretrained a model of its own, less what "
            "the models did cost."
        )
    if _ONE_MORE in labels:
        yield f"{_ONE_MORE}: of all arms with its pretraining, mean over the complete ones."
    trials = pd.concat([study.trials, study.superseded])
    first, last = trials["started_at"].min(), trials["ended_at"].max()
    if pd.notna(first) and pd.notna(last) and last > first:
        elapsed = (last - first).total_seconds()
        yield (
            f"{duration(elapsed)} passed from the first start to the last end, breaks between launches "
            f"included: {total / elapsed:.1f} trials at a time."
        )
    if not study.finished:
        yield "The study is not finished: this is its cost so far."


def duration(seconds: float) -> str:
    """Return a time span in a unit that suits it."""
    unit, size = next((name, size) for least, name, size in _UNITS if seconds >= least)
    return f"{seconds / size:.3g} {unit}"
