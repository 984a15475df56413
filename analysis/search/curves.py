"""Learning curves: of the search with where each run stopped, and of the ablation's arms."""

import numpy as np
import pandas as pd

from analysis.load import Study
from analysis.search.proposals import SearchRecords
from analysis.statistics import paired_difference
from analysis.tables.table import NothingToShow


def curve_quantiles(search: SearchRecords) -> pd.DataFrame:
    """Return by seed, fate and epoch the quantiles of the objective over the runs of that fate.

    `fate` is the last epoch of the runs that were stopped there, or 0 for those that are complete. Runs of
    one fate are the same at every epoch, so a quantile never moves because weak runs have left. Columns:
    seed, fate, epoch, n, q05, q25, q50, q75, q95.
    """
    epochs = search.epochs[search.epochs["status"].isin(["complete", "stopped"])]
    last = epochs["trial"].map(search.runs.set_index("trial")["epochs"])
    fate = last.where(epochs["status"] == "stopped", 0).astype(np.int64)
    groups = epochs.assign(fate=fate).groupby(["seed", "fate", "epoch"])["value"]
    quantiles = groups.quantile(np.array([0.05, 0.25, 0.5, 0.75, 0.95])).unstack()
    quantiles.columns = ["q05", "q25", "q50", "q75", "q95"]
    return groups.size().rename("n").to_frame().join(quantiles).reset_index()


def arm_curves(study: Study) -> pd.DataFrame:
    """Return by arm and epoch the paired difference to the baseline in the headline metric on validation.

    Columns: arm, epoch, n, mean, ci_low, ci_high (paired t over seeds). Arms that train no epoch have no
    curve. Raises NothingToShow if no arm can be paired with the baseline.
    """
    column = f"validation/{study.headline}"
    trials = study.trials
    runs = trials[
        (trials["phase"] == "ablation") & trials["arm"].isin(study.arms) & (trials["status"] == "complete")
    ]
    epochs = study.epochs(["trial", "epoch", column])
    if column not in epochs:
        raise NothingToShow(f"the epochs have no value of {study.headline} on validation")
    epochs = runs[["trial", "arm", "seed"]].merge(epochs.dropna(), on="trial")
    wide = epochs.pivot(index=["epoch", "seed"], columns="arm", values=column)
    rows = []
    for arm in study.arms:
        if arm == study.baseline or arm not in wide or study.baseline not in wide:
            continue
        pairs = wide[[arm, study.baseline]].dropna()
        for epoch, pair in pairs.groupby("epoch"):
            result = paired_difference(
                pair[arm], pair[study.baseline], direction=study.metrics[study.headline]
            )
            rows.append((arm, epoch, result.n, result.mean, result.ci_low, result.ci_high))
    if not rows:
        raise NothingToShow(f"no arm has an epoch in common with {study.baseline}")
    return pd.DataFrame(rows, columns=["arm", "epoch", "n", "mean", "ci_low", "ci_high"])
