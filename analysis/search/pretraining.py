"""The pretrained models of a study: what each seed reached on validation, and which pass the gate."""

import pandas as pd

from analysis.load import Study
from analysis.tables.table import NothingToShow


def pretrained(study: Study) -> pd.DataFrame:
    """Return one row per model: group, seed, trial, value, passed, seed_passes.

    Models are those that the trials of a seed share, `group` being their phase; or, where the recipe trains
    from nothing, the arms' own, `group` being the arm. The value is that of the gate's metric on validation,
    or of the headline metric, which `attrs["metric"]` names. A seed passes if all its models do; without a
    gate all pass.
    Raises NothingToShow if no model is complete.
    """
    metric = study.headline if study.gate is None else study.gate.metric
    column = f"validation/{metric}"
    trials = study.trials
    shared = trials[trials["arm"].isna() & trials["proposal"].isna()]
    own = trials[(trials["phase"] == "ablation") & trials["arm"].notna() & trials["pretrain_key"].isna()]
    models, group = (own, "arm") if shared.empty else (shared, "phase")
    models = models[models["status"] == "complete"]
    if models.empty or column not in models or models[column].isna().all():
        raise NothingToShow(f"no pretrained model is complete with a value of {metric} on validation")
    frame = models[[group, "seed", "trial", column]].dropna()
    frame = frame.rename(columns={group: "group", column: "value"}).reset_index(drop=True)
    frame["passed"] = frame["value"] >= study.gate.at_least if study.gate is not None else True
    frame["seed_passes"] = frame.groupby("seed")["passed"].transform("all")
    frame.attrs.update(metric=metric, group=group)
    return frame
