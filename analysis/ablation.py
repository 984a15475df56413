"""The ablation table: every arm against the baseline, paired by seed, in long form.

A row is one comparison on one metric, and all its numbers rest on the same n seeds: those that are
complete both in the arm and in what it is compared with. `n_missing` counts the wanted seeds that are not.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from analysis.intervals import IntervalKind, bca_interval, effect_size
from analysis.load import Family, Study
from analysis.power import SeedsNeeded, seeds_needed
from analysis.statistics import ALPHA, holm, paired_difference, paired_differences
from study.records import TRIALS, RecordsError

COLUMNS: Final = (
    "arm",
    "baseline",
    "family",
    "metric",
    "n",
    "n_missing",
    "mean",
    "sd",
    "diff",
    "ci_low",
    "ci_high",
    "p",
    "p_holm",
    "wins",
    "effect",
    "effect_low",
    "effect_high",
    "seeds_needed",
    "seeds_low",
    "seeds_high",
)
BCA_COLUMNS: Final = ("bca_low", "bca_high")


class Comparison(NamedTuple):
    """An arm and what it is compared with; None: only its mean is asked for."""

    arm: str
    against: str | None


class PairedTrials(NamedTuple):
    """The trials of the n pairs that a row of the table rests on; `against` is empty if there is none."""

    arm: tuple[int, ...]
    against: tuple[int, ...]

    @property
    def both(self) -> tuple[int, ...]:
        """Those that a difference rests on."""
        return self.arm + self.against


class MissingRuns(NamedTuple):
    """Wanted seeds of an arm without a result, and why."""

    arm: str
    seeds: tuple[int, ...]
    reason: str


def ablation_table(study: Study, intervals: IntervalKind = "t") -> pd.DataFrame:
    """Return one row per comparison and metric, with the columns of COLUMNS.

    The arms come first, each against the baseline (the baseline itself against nothing), then what families
    and controls compare with other arms, then context. p and p_holm stand only in the rows of a family: its
    arms on its metric. With a gate there is one such table per selection of seeds, and a last column `seeds`
    tells them apart: "gated" first, then "ungated".
    ci_low and ci_high are those of the paired t. With intervals="bca" bca_low and bca_high come last: to be
    printed, and too narrow to rest verdicts on. effect is Hedges's g_z, with the interval of the
    population's effect; seeds_needed is for 80 % power, in the rows of a family at the strictest level of
    Holm's, seeds_low and seeds_high for the ends of that interval (missing: analysis.power.SeedsNeeded).
    Raises RecordsError if the records hold two results for one arm and seed.
    """
    columns = (*COLUMNS, *BCA_COLUMNS) if intervals == "bca" else COLUMNS
    tables = []
    for selection, seeds in study.selections.items():
        wanted = [*comparisons(study), *(Comparison(arm, None) for arm in context_arms(study))]
        rows = [row for comparison in wanted for row in _rows(study, seeds, comparison, intervals)]
        table = _with_holm(pd.DataFrame(rows, columns=columns), study)
        tables.append(table if study.gate is None else table.assign(seeds=selection))
    counts = dict.fromkeys(("wins", "seeds_needed", "seeds_low", "seeds_high"), "Int64")
    return pd.concat(tables, ignore_index=True).astype(counts)


def main_table(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that conclusions rest on: of the gated seeds if there is a gate, else all."""
    return table if study.gate is None else table[table["seeds"] == next(iter(study.selections))]


def comparisons(study: Study) -> list[Comparison]:
    """Return what is compared with what, the baseline's own row included."""
    base = study.baseline
    pairs = [Comparison(arm, None if arm == base else base) for arm in study.arms]
    pairs += [Comparison(arm, family.against) for family in study.families for arm in family.arms]
    pairs += [Comparison(arm, against) for against in study.controls_against for arm in study.controls]
    return list(dict.fromkeys(pairs))


def context_arms(study: Study) -> list[str]:
    """Return the names of the context rows: what needs no training at all."""
    return list(study.trials.loc[study.trials["phase"] == "context", "arm"].unique())


def missing_runs(study: Study, seeds: Sequence[int]) -> list[MissingRuns]:
    """Return the arms' seeds that have no result, grouped by reason; empty if the table is complete."""
    missing = []
    for arm in study.arms:
        runs = arm_runs(study, arm, seeds)
        reasons: dict[str, list[int]] = {}
        for seed, reason in zip(seeds, _reasons(study, runs), strict=True):
            if reason is not None:
                reasons.setdefault(reason, []).append(seed)
        missing += [MissingRuns(arm, tuple(group), reason) for reason, group in reasons.items()]
    return missing


def _reasons(study: Study, runs: pd.DataFrame) -> Iterator[str | None]:
    words = {
        "running": "not finished yet",
        "waiting": "interrupted, it goes on with the next launch",
        "stopped": "stopped before its end",
    }
    values = np.column_stack([final_values(runs, metric) for metric in study.metrics])
    for status, failure, kind, row in zip(
        runs["status"], runs["failure"], runs["failure_kind"], values, strict=True
    ):
        absent = [metric for metric, value in zip(study.metrics, row, strict=True) if not np.isfinite(value)]
        if not isinstance(status, str):
            yield "not started"
        elif status != "complete":
            what = f"failed ({kind.replace('_', ' ')})" if isinstance(kind, str) else "failed"
            yield words.get(status) or f"{what}: {failure or 'without a message'}"
        else:
            yield f"complete, but without a value of {', '.join(absent)}" if absent else None


def arm_runs(study: Study, arm: str, seeds: Sequence[int]) -> pd.DataFrame:
    """Return the trials of an arm, one row per seed in the order of `seeds`, empty where there is none."""
    runs = study.runs.get(arm)
    if runs is None:
        runs = study.trials.iloc[:0].set_index("seed")
    twice = runs.index[runs.index.duplicated()]
    if len(twice):
        raise RecordsError(
            f"{study.store.place(TRIALS)} holds two trials of arm {arm} with seed {twice[0]}; "
            "run the study's command again to derive it from the ledger"
        )
    return runs.reindex(list(seeds))


def final_values(runs: pd.DataFrame, metric: str) -> np.ndarray:
    """Return the test values of complete runs; nan where there is none, or none that is finite."""
    column = f"test/{metric}"
    if column not in runs:
        return np.full(len(runs), np.nan)
    values = runs[column].to_numpy(dtype=np.float64, na_value=np.nan)
    counts = np.isfinite(values) & (runs["status"].to_numpy() == "complete")
    return np.where(counts, values, np.nan)


def paired_trials(study: Study, seeds: Sequence[int], comparison: Comparison, metric: str) -> PairedTrials:
    """Return the trials that a row of the table rests on."""
    runs = [arm_runs(study, arm, seeds) for arm in comparison if arm is not None]
    paired = np.all([np.isfinite(final_values(of_arm, metric)) for of_arm in runs], axis=0)
    trials = [tuple(int(trial) for trial in of_arm.loc[paired, "trial"]) for of_arm in runs]
    return PairedTrials(trials[0], trials[1] if comparison.against is not None else ())


def _rows(
    study: Study, seeds: Sequence[int], comparison: Comparison, intervals: IntervalKind
) -> Iterator[dict[str, object]]:
    runs = arm_runs(study, comparison.arm, seeds)
    others = None if comparison.against is None else arm_runs(study, comparison.against, seeds)
    # A gate may run out of seeds; those it could not find are missing too.
    wanted = max(study.num_seeds, len(seeds))
    for metric, direction in study.metrics.items():
        values = final_values(runs, metric)
        other = values if others is None else final_values(others, metric)
        paired = np.isfinite(values) & np.isfinite(other)
        values, other = values[paired], other[paired]
        row: dict[str, object] = {
            "arm": comparison.arm,
            "baseline": comparison.against,
            "metric": metric,
            "n": len(values),
            "n_missing": wanted - len(values),
            "mean": values.mean() if len(values) else np.nan,
            "sd": values.std(ddof=1) if len(values) > 1 else np.nan,
        }
        if others is None:
            yield row
            continue
        result = paired_difference(values, other, direction=direction)
        row |= {"diff": result.mean, "ci_low": result.ci_low, "ci_high": result.ci_high, "wins": result.wins}
        differences = paired_differences(values, other)
        if intervals == "bca":
            row |= zip(BCA_COLUMNS, bca_interval(differences), strict=True)
        effect = effect_size(differences)
        row |= {"effect": effect.g_z, "effect_low": effect.low, "effect_high": effect.high}
        families = [family for family in study.families if _belongs(family, comparison, metric)]
        for family in families:
            needed = seeds_needed(differences, ALPHA / len(family.arms))
            yield {**row, "family": family.name, "p": result.p, **_seeds(needed)}
        if not families:
            yield {**row, **_seeds(seeds_needed(differences))}


def _seeds(needed: SeedsNeeded) -> dict[str, object]:
    return {"seeds_needed": needed.n, "seeds_low": needed.low, "seeds_high": needed.high}


def _belongs(family: Family, comparison: Comparison, metric: str) -> bool:
    return family.metric == metric and family.against == comparison.against and comparison.arm in family.arms


def _with_holm(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    p_holm = np.full(len(table), np.nan)
    for family in study.families:
        members = (table["family"] == family.name).to_numpy()
        p_holm[members] = holm(table.loc[members, "p"].tolist())
    effect = ["effect", "effect_low", "effect_high"]
    numbers = ["mean", "sd", "diff", "ci_low", "ci_high", "p", "p_holm", *effect]
    numbers += [name for name in BCA_COLUMNS if name in table]
    return table.assign(p_holm=p_holm).astype(dict.fromkeys(numbers, np.float64))
