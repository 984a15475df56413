"""The pretrained models of a study: what each seed reached on validation, and which pass the gate."""

import pandas as pd

from analysis.load import Study
from analysis.tables.table import NothingToShow


def pretrained(study: Study) -> pd.DataFrame:
    """Return one row per pretrained model: phase, seed, trial, value, passed; `attrs["metric"]` names value.

    The value is that of the gate's metric on validation, or of the headline metric; without a gate all pass.
    Raises NothingToShow if no pretraining is complete.
    """
    metric = study.headline if study.gate is None else study.gate.metric
    trials = study.trials
    of_models = trials[trials["arm"].isna() & trials["proposal"].isna() & trials["export"].notna()]
    column = f"validation/{metric}"
    if of_models.empty or column not in of_models:
        raise NothingToShow("this study has no pretrained model that is complete")
    models = of_models[of_models["status"] == "complete"].dropna(subset=column)
    if models.empty:
        raise NothingToShow(f"no pretrained model has a value of {metric} on validation")
    frame = models[["phase", "seed", "trial", column]].rename(columns={column: "value"})
    passed = frame["value"] >= study.gate.at_least if study.gate is not None else True
    frame = frame.assign(passed=passed).reset_index(drop=True)
    frame.attrs["metric"] = metric
    return frame
