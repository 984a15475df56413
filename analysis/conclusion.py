"""One plain sentence on what an ablation table does and does not support, made from its numbers."""

from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from analysis._words import count, count_range, join, plural
from analysis.ablation import main_table, missing_runs
from analysis.load import Family, Study
from analysis.statistics import ALPHA, Direction, holm, smallest_p

Verdict = Literal["better", "worse", "unclear"]


def verdict(row: pd.Series, direction: Direction) -> Verdict:
    """Say what a row shows: a difference if its interval excludes 0 and its Holm p, if any, is below 0.05."""
    excludes_zero = row["ci_low"] > 0 or row["ci_high"] < 0
    if not excludes_zero or row["p_holm"] >= ALPHA:
        return "unclear"
    return "better" if (row["diff"] > 0) == (direction == "max") else "worse"


def chosen(study: Study) -> str:
    """Say what was chosen by results: settings, by a search, and epochs, if some run kept an earlier one."""
    trials = study.trials
    settings = ["settings"] if study.winner is not None else []
    epochs = ["epochs"] if (trials["chosen_epoch"] < trials["epochs"]).any() else []
    return " and ".join(settings + epochs)


def conclude(study: Study, table: pd.DataFrame) -> str:
    """Return the sentence for the main selection of seeds."""
    table = main_table(study, table)
    most = int(table.loc[table["diff"].notna(), "n"].max() if table["diff"].notna().any() else 0)
    if most < 2:
        seeds = "no seed is" if most == 0 else "only one seed is"
        return f"This table supports no conclusion yet: {seeds} complete in an arm and in {study.baseline}."
    clauses = [
        *(clause for family in study.families for clause in _family_clauses(study, table, family)),
        *_control_clauses(study, table),
        *_caveats(study, table),
        f"conclusions are over training seeds on this split of {study.data}, not over other data",
    ]
    sentence = "; ".join(clauses) + "."
    return sentence[0].upper() + sentence[1:]


def _family_clauses(study: Study, table: pd.DataFrame, family: Family) -> Iterable[str]:
    planned = table[table["family"] == family.name]
    rows = planned[planned["n"] > 0]
    absent = list(planned.loc[planned["n"] == 0, "arm"])
    found = {
        kind: [
            f"{row['arm']} ({_effect(row)})"
            for _, row in rows.iterrows()
            if verdict(row, study.metrics[family.metric]) == kind
        ]
        for kind in ("better", "worse", "unclear")
    }
    words = {
        "better": f"{family.metric} is shown to be better than {family.against} with",
        "worse": f"{family.metric} is shown to be worse than {family.against} with",
        "unclear": f"{family.metric} is not shown to differ from {family.against} with",
    }
    told = [f"{words[kind]} {join(arms)}" for kind, arms in found.items() if arms]
    if told:
        seeds = f"{count_range(rows['n'])} paired {plural(rows['n'].max(), 'seed')}"
        yield f"over {seeds} {join(told)}{_floor(planned)}"
    if absent:
        no_seed = f"{plural(len(absent), 'has', 'have')} no seed to compare with {family.against}"
        yield f"{join(absent)} {no_seed} on {family.metric}"


def _effect(row: pd.Series) -> str:
    if row["n"] < 2:
        return count(row["n"], "seed")
    p = f"Holm p = {row['p_holm']:.3g}"
    inside = row["ci_low"] <= 0 <= row["ci_high"]
    return f"{p}, but its interval includes 0" if inside and row["p_holm"] < ALPHA else p


def _floor(rows: pd.DataFrame) -> str:
    floors = [smallest_p(n) for n in rows["n"]]  # nan below two pairs
    if not any(floor < ALPHA for floor in floors):
        return f", where so few seeds allow no p below {ALPHA}"
    least = np.nanmin(holm(floors))
    if least >= ALPHA:
        return f", where so few seeds allow no Holm p of {len(rows)} comparisons below {least:.2g}"
    return ""


def _control_clauses(study: Study, table: pd.DataFrame) -> Iterable[str]:
    direction = study.metrics[study.headline]
    headline = table[table["metric"] == study.headline]
    words = {"worse": "worse", "better": "better", "unclear": "not shown to differ"}
    for against in study.controls_against:
        planned = headline[(headline["baseline"] == against) & headline["arm"].isin(study.controls)]
        rows, absent = planned[planned["n"] > 0], list(planned.loc[planned["n"] == 0, "arm"])
        found: dict[Verdict, list[str]] = {"worse": [], "better": [], "unclear": []}
        for _, row in rows.iterrows():
            found[verdict(row, direction)].append(row["arm"])
        told = [
            f"{join(arms)} {plural(len(arms), 'is', 'are')} {words[kind]}"
            for kind, arms in found.items()
            if arms
        ]
        if absent:
            told.append(f"{join(absent)} {plural(len(absent), 'has', 'have')} no seed to compare")
        as_good = found["better"] + found["unclear"]
        gain = any(
            verdict(row, study.metrics[row["metric"]]) == "better"
            for _, row in table[(table["arm"] == against) & table["p_holm"].notna()].iterrows()
        )
        removed = f"{join(as_good)} {plural(len(as_good), 'removes', 'remove')}" if as_good else ""
        credit = f", so the gain is not shown to come from what {removed}" if gain and as_good else ""
        kind = "95 % paired-t intervals, uncorrected"
        yield f"of the controls against {against} ({kind}), {join(told)}{credit}"


def _caveats(study: Study, table: pd.DataFrame) -> Iterable[str]:
    seeds = study.main_seeds
    missing = sum(len(group.seeds) for group in missing_runs(study, seeds))
    if missing:
        yield f"{missing} of {len(study.arms) * len(seeds)} runs {plural(missing, 'is', 'are')} missing (⚠)"
    if study.gate is not None and study.gated_seeds is not None:
        yield f"only seeds count {study.gate.clause}, {len(seeds)} of the {study.num_seeds} wanted"
    elif study.gate is not None:
        yield "the gate is not decided yet, so these are the first seeds whether they pass it or not"
    if study.protocol == "reference" and chosen(study):
        yield f"{chosen(study)} were chosen on the test videos, which inflates every trained row"
