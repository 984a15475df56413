"""The pretrained models: how much they owe to their seed, and which of them pass the gate."""

from collections.abc import Iterator
from typing import Final

import numpy as np
import pandas as pd

from analysis._text import decimals, mean_sd, number
from analysis.ablation import arm_runs, final_values
from analysis.load import Study
from analysis.tables.combine import side_by_side
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table

_MOST_MODELS: Final = 30  # up to which every model has a row of its own
_PHASES: Final = {"ablation": "ablation seeds", "search": "search seeds", "confirm": "confirmation seeds"}


def pretraining_table(*studies: Study) -> Table:
    """Return the validation metric of the pretrained models: its spread over seeds, the gate, each model.

    Models are grouped by what their seeds are for; where arms have models of their own, by arm. Several
    studies stand side by side. Raises NothingToShow if no study has a value of such a model.
    """
    return side_by_side(studies, _table)


def _table(study: Study) -> Table:
    metric = study.headline if study.gate is None else study.gate.metric
    models = _models(study, metric)
    digits = decimals(models["value"])
    after = _after(study)
    groups = list(models.groupby("group", sort=False))
    rows = [Row(tuple(_summary(study, str(name), part, digits)), "together") for name, part in groups]
    if len(models) <= _MOST_MODELS:
        rows += [
            Row(tuple(_single(study, model, digits, after)), str(name))
            for name, part in groups
            for _, model in part.iterrows()
        ]
    columns = [
        Column("models", align="left"),
        Column("n"),
        Column("mean ± sd", group=f"{metric}, validation"),
        Column("lowest", group=f"{metric}, validation"),
        Column("highest", group=f"{metric}, validation"),
        Column("gate" if study.gate is None else f"gate {study.gate.at_least:g}", align="center"),
    ]
    if after is not None:
        columns.append(Column(f"{study.headline}, test", group=f"after {study.baseline}"))
    return Table(
        name="pretraining",
        title=f"Pretraining: {study.name} on {study.data}",
        columns=tuple(columns),
        rows=tuple(row if after is not None else Row(row.cells[:-1], row.section) for row in rows),
        long=models,
        notes=tuple(_notes(study, models, metric, after is not None)),
    )


def _models(study: Study, metric: str) -> pd.DataFrame:
    """Return one row per model: group, phase, seed, arm, trial, status, value, passed."""
    trials = study.trials
    shared = trials[trials["arm"].isna() & trials["proposal"].isna()]
    if len(shared):
        models = shared.assign(group=shared["phase"].map(_PHASES).fillna(shared["phase"]))
    else:
        # A recipe of one stage: what an arm trains is what others would start from.
        models = trials[(trials["phase"] == "ablation") & (trials["stage"] == "pretrain")]
        models = models.assign(group=models["arm"])
    column = f"validation/{metric}"
    if models.empty:
        raise NothingToShow("no pretrained model is complete, or this study pretrains nothing")
    if column not in models or not np.isfinite(models[column].astype(np.float64)).any():
        raise NothingToShow(f"no pretrained model has a value of {metric} on validation")
    order = {name: index for index, name in enumerate((*_PHASES.values(), *study.arms))}
    frame = pd.DataFrame(
        {
            "group": models["group"],
            "phase": models["phase"],
            "arm": models["arm"],
            "seed": models["seed"],
            "trial": models["trial"],
            "status": models["status"],
            "failure": models["failure"],
            "value": models[column].astype(np.float64),
        }
    )
    if study.gate is not None:
        reached = frame["value"] >= study.gate.at_least
        frame = frame.assign(passed=reached.astype(object).where(frame["value"].notna(), None))
    keys = pd.DataFrame({"group": frame["group"].map(order), "seed": frame["seed"]})
    return frame.loc[keys.sort_values(["group", "seed"], kind="stable").index].reset_index(drop=True)


def _after(study: Study) -> pd.DataFrame | None:
    """Return by seed value and trial of what the baseline made of its model; None if it has no model."""
    if study.trials.loc[study.trials["proposal"].isna(), "arm"].notna().all():
        return None
    seeds = sorted({*study.ungated_seeds, *(study.gated_seeds or ())})
    runs = arm_runs(study, study.baseline, seeds)
    after = pd.DataFrame({"value": final_values(runs, study.headline), "trial": runs["trial"]}, index=seeds)
    return after.dropna(subset="value")


def _summary(study: Study, name: str, part: pd.DataFrame, digits: int) -> Iterator[Cell]:
    complete = part[part["value"].notna()]
    trials = tuple(int(trial) for trial in complete["trial"])
    reason = None
    if len(complete) < len(part):
        reason = f"{name}: {len(part) - len(complete)} of {len(part)} models are not complete"
    yield Cell(name)
    yield Cell(str(len(complete)), len(complete), trials, reason)
    if complete.empty:
        yield from [Cell("", missing=reason)] * 4
        yield Cell("")
        return
    mean, low, high = (float(getattr(complete["value"], how)()) for how in ("mean", "min", "max"))
    row = pd.Series({"mean": mean, "sd": complete["value"].std(ddof=1)})
    yield Cell(mean_sd(row, digits), mean, trials)
    yield Cell(number(low, digits), low, trials)
    yield Cell(number(high, digits), high, trials)
    if study.gate is None:
        yield Cell("none")
    else:
        count = int(complete["passed"].sum())
        yield Cell(f"{count} of {len(complete)}", count, trials)
    yield Cell("")


def _single(study: Study, model: pd.Series, digits: int, after: pd.DataFrame | None) -> Iterator[Cell]:
    trials = (int(model["trial"]),)
    yield Cell(f"seed {model['seed']}", trials=trials)
    yield Cell("")
    if pd.isna(model["value"]):
        why = model["failure"] if isinstance(model["failure"], str) else model["status"]
        yield Cell("", trials=trials, missing=f"trial {model['trial']}: {' '.join(why.split())}")
    else:
        yield Cell(number(model["value"], digits), float(model["value"]), trials)
    yield Cell("")
    yield Cell("")
    passed = model.get("passed")
    yield Cell("" if passed is None else "✓" if passed else "✗", trials=trials)
    if after is None or model["seed"] not in after.index:
        yield Cell("")
    else:
        value, trial = after.loc[model["seed"]]
        yield Cell(number(value, digits), float(value), (int(trial),))


def _notes(study: Study, models: pd.DataFrame, metric: str, has_after: bool) -> Iterator[str]:
    yield "A model's value is that of its exported epoch; ± sd over seeds, ddof = 1."
    if study.gate is None:
        yield "This study has no gate: every model counts."
    else:
        yield f"gate: {metric} of at least {study.gate.at_least:g} on validation."
        if models["arm"].notna().any():
            yield "A seed passes if the models of all its arms do."
        if study.gated_seeds is not None:
            passed = ", ".join(map(str, study.gated_seeds)) or "none"
            yield f"Ablation seeds that count: {passed}; {study.num_seeds} were wanted."
    if has_after:
        yield f"after {study.baseline}: what the baseline made of the model of that seed."
    if len(models) > _MOST_MODELS:
        yield f"The {len(models)} models one by one are in the CSV file."
