"""The proposals along one or two parameters, and how far seeds alone move a proposal's mean."""

import math

import numpy as np
import pandas as pd

from analysis.search.proposals import Parameter, SearchRecords


def slices(search: SearchRecords) -> pd.DataFrame:
    """Return one row per parameter and proposal: parameter, setting, proposal, state, value.

    `value` is nan where a proposal is not complete; proposals without the parameter are left out.
    """
    proposals = search.proposals
    parts = []
    for parameter in search.parameters:
        settings = proposals[parameter.name]
        part = proposals[["proposal", "state", "value"]].assign(parameter=parameter.name, setting=settings)
        # Not notna: None may be an option.
        parts.append(part[np.isfinite(parameter.position(settings))])
    return pd.concat(parts, ignore_index=True)


def seed_noise(search: SearchRecords) -> float:
    """Return the standard error of a proposal's mean over the search seeds; nan with one seed or proposal.

    y = proposal + seed + residual; with P complete proposals on S seeds the residuals have variance
    Σ r² / ((P − 1)(S − 1)), a mean its S-th part. Differences between seeds are the same for all proposals
    and do not count.
    """
    complete = search.proposals.loc[search.proposals["state"] == "complete", "proposal"]
    runs = search.runs[search.runs["proposal"].isin(complete)]
    values = runs.pivot(index="proposal", columns="seed", values="value").to_numpy()
    num_proposals, num_seeds = values.shape
    if num_proposals < 2 or num_seeds < 2:
        return math.nan
    residual = values - values.mean(1, keepdims=True) - values.mean(0, keepdims=True) + values.mean()
    return math.sqrt((residual**2).sum() / ((num_proposals - 1) * (num_seeds - 1)) / num_seeds)


def pair_cells(search: SearchRecords, x: Parameter, y: Parameter, cells: int) -> pd.DataFrame:
    """Return the complete proposals binned over two parameters: x_cell, y_cell, mean, n; no empty cells.

    Each range is cut into so many equal parts, in the logarithm where the parameter is searched in it; a
    parameter with options has one part per option.
    """
    complete = search.complete()
    frame = pd.DataFrame(
        {
            "x_cell": _cell(x, complete[x.name], cells),
            "y_cell": _cell(y, complete[y.name], cells),
            "value": complete["value"],
        }
    ).dropna()
    counted = frame.groupby(["x_cell", "y_cell"])["value"].agg(mean="mean", n="size").reset_index()
    return counted.astype({"x_cell": np.int64, "y_cell": np.int64})


def _cell(parameter: Parameter, settings: pd.Series, cells: int) -> np.ndarray:
    position = parameter.position(settings)
    return position if parameter.options else np.minimum(np.floor(position * cells), cells - 1)
