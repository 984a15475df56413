"""What choosing and judging on the same data adds: the best on validation against the best on test.

A choice among k candidates takes the one that is best on some data. Judged on the same data its value is too
good, since luck there was part of why it was chosen; judged on other data it is not.
"""

from collections.abc import Iterator
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.ablation import arm_runs, final_values
from analysis.load import Study
from analysis.search.proposals import SearchRecords, search_of
from analysis.tables.table import NothingToShow

Choice = Literal["seed", "epoch", "proposal", "lead", "gain"]

OTHER_SEEDS: Final = "the arm's other seeds"


class _Bias(NamedTuple):
    choice: Choice
    label: str
    metric: str
    judged_on: str
    chosen_on: str
    candidates: int
    n: int  # choices that the values are means of
    no_choice: float
    different_data: float
    same_data: float
    trials: tuple[int, ...]


def selection_bias(study: Study) -> pd.DataFrame:
    """Return one row per choice: its value judged on other data, judged on its own, and the optimism.

    choice is
    "seed": the best of an arm's seeds, on test, chosen on validation or on test itself;
    "epoch": the best of a run's epochs, on test, chosen on validation or on test itself. Where only one split
    is known by epoch, judged on that, and chosen on the mean curve of the arm's other seeds. Their videos
    are the same: optimism is then luck of the seed alone, to which seeds that truly differ add, and leaves
    out what the videos favour in all seeds;
    "proposal": the best of the confirmed proposals on fresh seeds, chosen on the search seeds or on these;
    "lead": how far the search's best was ahead of the other confirmed ones on the search seeds (same data),
    and is on the fresh seeds;
    "gain": an arm's gain over the baseline on validation (same data) and on test, if settings or epochs
    were chosen on validation. It has no optimism, since validation and test differ in their videos too.
    no_choice is the mean of all candidates or, of epochs, the last one. optimism is same_data less
    different_data, positive where the same data flatter. A value that the records cannot give is nan.
    Raises NothingToShow if they give none.
    """
    rows = [*_seed_rows(study), *_epoch_rows(study), *_proposal_rows(study), *_gain_rows(study)]
    if not rows:
        raise NothingToShow("nothing has been chosen whose value elsewhere is known")
    frame = pd.DataFrame(rows)
    signs = frame["metric"].map(lambda metric: 1 if study.metrics[metric] == "max" else -1)
    optimism = signs * (frame["same_data"] - frame["different_data"])
    return frame.assign(optimism=optimism.where(frame["choice"] != "gain"))


def _seed_rows(study: Study) -> Iterator[_Bias]:
    for arm in study.arms:
        runs, test, validation = _scores(study, arm)
        known = np.isfinite(test)
        if known.sum() < 2:
            continue
        test = test[known]
        # A seed without a validation value could not have been chosen: then no choice is shown at all.
        best = _best(study, validation[known])
        yield _Bias(
            "seed",
            arm,
            study.headline,
            "test",
            "validation",
            candidates=len(test),
            n=1,
            no_choice=float(test.mean()),
            different_data=np.nan if best is None else float(test[best]),
            same_data=float(test[_best(study, test)]),
            trials=_trials(runs[known]),
        )


def _gain_rows(study: Study) -> Iterator[_Bias]:
    if study.protocol == "reference" or not _chose_on_validation(study):
        return
    runs, test, validation = _scores(study, study.baseline)
    for arm in study.arms:
        own, own_test, own_validation = _scores(study, arm)
        paired = np.isfinite(test) & np.isfinite(own_test) & np.isfinite(validation)
        paired &= np.isfinite(own_validation)
        if arm != study.baseline and paired.any():
            yield _Bias(
                "gain",
                arm,
                study.headline,
                "test",
                "validation",
                candidates=1,
                n=int(paired.sum()),
                no_choice=np.nan,
                different_data=float((own_test - test)[paired].mean()),
                same_data=float((own_validation - validation)[paired].mean()),
                trials=(*_trials(own[paired]), *_trials(runs[paired])),
            )


def _chose_on_validation(study: Study) -> bool:
    """Say whether settings or epochs were chosen there; where runs are scored by epoch, the best is kept."""
    column = f"validation/{study.headline}"
    return study.winner is not None or bool(study.epochs([column]).notna().to_numpy().any())


def _epoch_rows(study: Study) -> Iterator[_Bias]:
    names = {split: f"{split}/{study.headline}" for split in ("validation", "test")}
    epochs = study.epochs(["trial", "epoch", *names.values()])
    for arm in study.arms:
        runs, _, _ = _scores(study, arm)
        runs = runs[runs["status"] == "complete"]
        own = epochs[epochs["trial"].isin(runs["trial"])]
        curves = {
            split: own.pivot(index="trial", columns="epoch", values=name).dropna()
            for split, name in names.items()
            if name in own
        }
        curves = {split: curve for split, curve in curves.items() if min(curve.shape) > 1}
        yield from _best_epoch(study, arm, curves)


def _best_epoch(study: Study, arm: str, curves: dict[str, pd.DataFrame]) -> Iterator[_Bias]:
    """Compare choices of an epoch; the curves are trial × epoch."""
    if not curves:
        return
    if len(curves) == 2:
        trials = curves["test"].index.intersection(curves["validation"].index)
        judge, chooser = curves["test"].loc[trials], curves["validation"].loc[trials]
        judged_on, chosen_on = "test", "validation"
    else:
        judged_on, chosen_on = next(iter(curves)), OTHER_SEEDS
        judge = curves[judged_on]
        chooser = (judge.sum() - judge) / (len(judge) - 1)
    values = judge.to_numpy()
    rows = np.arange(len(values))
    chosen = [_best(study, row) for row in chooser.to_numpy()]
    best = [_best(study, row) for row in values]
    yield _Bias(
        "epoch",
        arm,
        study.headline,
        judged_on,
        chosen_on,
        candidates=values.shape[1],
        n=len(values),
        no_choice=float(values[:, -1].mean()),
        different_data=float(values[rows, chosen].mean()),
        same_data=float(values[rows, best].mean()),
        trials=tuple(int(trial) for trial in judge.index),
    )


def _proposal_rows(study: Study) -> Iterator[_Bias]:
    try:
        search = search_of(study)
        searched = search.complete().set_index("proposal")["value"]
    except NothingToShow:
        return
    confirmed, trials = _confirmations(search)
    confirmed = confirmed[confirmed.index.isin(searched.index)]
    if len(confirmed) < 2:
        return
    before = searched[confirmed.index].to_numpy()
    fresh = confirmed.to_numpy()
    sign = search.objective.sign
    first, best = int(np.argmax(sign * before)), int(np.argmax(sign * fresh))
    common = (search.objective.metric, f"fresh seeds ({search.objective.split})", "the search seeds")
    others = np.arange(len(fresh)) != first
    yield _Bias(
        "proposal",
        f"proposal {confirmed.index[first]}",
        *common,
        candidates=len(fresh),
        n=1,
        no_choice=float(fresh.mean()),
        different_data=float(fresh[first]),
        same_data=float(fresh[best]),
        trials=trials,
    )
    yield _Bias(
        "lead",
        f"proposal {confirmed.index[first]}",
        *common,
        candidates=len(fresh),
        n=1,
        no_choice=np.nan,
        different_data=float(fresh[first] - fresh[others].mean()),
        same_data=float(before[first] - before[others].mean()),
        trials=trials,
    )


def _confirmations(search: SearchRecords) -> tuple[pd.Series, tuple[int, ...]]:
    """Return by proposal the mean over the fresh seeds, of those complete on all of them."""
    trials = search.study.trials
    runs = trials[(trials["phase"] == "confirm") & trials["proposal"].notna()]
    if search.objective.column not in runs:
        return pd.Series(dtype=np.float64), ()
    runs = runs[(runs["status"] == "complete") & np.isfinite(runs[search.objective.column])]
    values = runs.astype({"proposal": np.int64}).groupby("proposal")[search.objective.column]
    complete = values.mean()[values.size() == runs["seed"].nunique()]
    return complete, _trials(runs[runs["proposal"].isin(complete.index)])


def _scores(study: Study, arm: str) -> tuple[pd.DataFrame, NDArray[np.float64], NDArray[np.float64]]:
    """Return the runs of an arm by seed, and their headline on test and on validation; nan if not known."""
    runs = arm_runs(study, arm, study.main_seeds)
    column = f"validation/{study.headline}"
    validation = runs[column] if column in runs else pd.Series(np.nan, runs.index)
    return runs, final_values(runs, study.headline), np.asarray(validation, dtype=np.float64)


def _best(study: Study, values: NDArray[np.float64]) -> Any:
    """Return the place of the best value, the first of equals; None if one is not known."""
    if not np.isfinite(values).all():
        return None
    return int(np.argmax(values) if study.metrics[study.headline] == "max" else np.argmin(values))


def _trials(runs: pd.DataFrame) -> tuple[int, ...]:
    return tuple(int(trial) for trial in runs["trial"])
