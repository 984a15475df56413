"""How fast a search found its best proposal: by trials that ended, and by slot-seconds of work."""

import numpy as np
import pandas as pd

from analysis.search.proposals import SearchRecords


def regret(search: SearchRecords) -> pd.DataFrame:
    """Return one row per complete proposal in the order in which they ended.

    proposal, `value`, `best` so far, `regret` = how far `best` is from the best value of this search (what is
    best of all is not known), `num_trials` that had ended by then, stopped and failed ones too, and `slot_s`:
    the seconds that slots had worked for the search by then, pretraining included. Raises NothingToShow if no
    proposal is complete.
    """
    complete = search.complete().sort_values(["ended_at", "proposal"])
    sign = search.objective.sign
    best = (complete["value"] * sign).cummax()
    ended = np.sort(_micros(search.runs["ended_at"].dropna()))
    at = _micros(complete["ended_at"])
    return pd.DataFrame(
        {
            "proposal": complete["proposal"].to_numpy(),
            "value": complete["value"].to_numpy(),
            "best": (best * sign).to_numpy(),
            "regret": (best.max() - best).to_numpy(),
            "num_trials": np.searchsorted(ended, at, side="right"),
            "slot_s": _worked(search, at),
        }
    )


def _worked(search: SearchRecords, at: np.ndarray) -> np.ndarray:
    """Return the recorded work by some moments, each trial's `wall_s` spread evenly over its life."""
    trials = search.study.trials
    trials = trials[(trials["phase"] == "search") & trials["ended_at"].notna()]
    start, end = _micros(trials["started_at"]), _micros(trials["ended_at"])
    work = trials["wall_s"].to_numpy(dtype=np.float64)
    life = np.maximum(end - start, 1)
    order = np.argsort(np.concatenate([start, end]), kind="stable")
    moments = np.concatenate([start, end])[order]
    # Between two moments the slots at work are the same, so the sum of work is linear there.
    rates = np.cumsum(np.concatenate([work / life, -work / life])[order])
    done = np.concatenate([[0.0], np.cumsum(rates[:-1] * np.diff(moments))])
    return np.interp(at, moments, done)


def _micros(moments: pd.Series) -> np.ndarray:
    return moments.dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype(np.int64)
