"""How much each searched parameter matters, by Optuna's evaluators, with its uncertainty.

    fANOVA      share of the variance of a random forest's prediction (Hutter et al. 2014, ICML)
    MDI         mean decrease in impurity of such a forest
    PED-ANOVA   how far the best proposals' settings differ from all (Watanabe et al. 2023, arXiv 2304.10255)

Importances of one evaluator sum to 1, whether the parameters matter or not. Hence two comparisons: resamples
of the proposals say how uncertain a share is, and shuffled values what share a parameter gets by chance.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

import numpy as np
import optuna
import pandas as pd
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.importance import (
    BaseImportanceEvaluator,
    FanovaImportanceEvaluator,
    MeanDecreaseImpurityImportanceEvaluator,
    PedAnovaImportanceEvaluator,
    get_param_importances,
)
from optuna.trial import FrozenTrial, create_trial

from analysis._words import plural
from analysis.search.proposals import Parameter, SearchRecords
from analysis.tables.table import NothingToShow

EVALUATORS: Final = ("fANOVA", "MDI", "PED-ANOVA")
MIN_PROPOSALS: Final = 8
NUM_RESAMPLES: Final = 16
# fANOVA's time grows with the square of a tree's leaves; every resample grows trees of its own.
MAX_SAMPLE: Final = 300
_TREES: Final = 8
_DEPTH: Final = 4


def importances(
    search: SearchRecords,
    values: pd.Series | None = None,
    *,
    evaluators: Sequence[str] = EVALUATORS,
    resamples: int = NUM_RESAMPLES,
    chance_resamples: int = NUM_RESAMPLES // 2,
) -> pd.DataFrame:
    """Return one row per evaluator and parameter: importance, low, high, chance, n.

    From the proposals that are complete on every search seed, by their means; or from `values` by proposal.
    `low` and `high` hold the middle 90 % of `resamples` drawn with replacement, `importance` is their mean;
    `chance` is the 95 % quantile of all parameters' shares over `chance_resamples` with values shuffled, one
    for each evaluator. n is the number of proposals; where there are more than MAX_SAMPLE, a resample draws
    so many. Parameters that are searched in some proposals only are left out.
    Raises NothingToShow below MIN_PROPOSALS, or if all values are equal.
    """
    settings = search.proposals.set_index("proposal")
    worth = (settings["value"] if values is None else values).dropna()
    parameters = [parameter for parameter in search.parameters if not parameter.conditional]
    if len(parameters) < 2:
        raise NothingToShow("importance compares parameters: at least two must be searched in every proposal")
    if len(worth) < MIN_PROPOSALS:
        raise NothingToShow(
            f"importance needs {MIN_PROPOSALS} proposals that ran to their end on every search seed; "
            f"there {plural(len(worth), 'is', 'are')} {len(worth)}"
        )
    if worth.nunique() == 1:
        raise NothingToShow("all proposals are worth the same, so no parameter can matter")
    sample = _Proposals(parameters, settings.loc[worth.index], worth)
    direction: Literal["maximize", "minimize"] = (
        "maximize" if search.objective.direction == "max" else "minimize"
    )
    with _quiet():
        shares = np.array(list(_resampled(sample, direction, evaluators, resamples, shuffled=False)))
        chance = np.array(list(_resampled(sample, direction, evaluators, chance_resamples, shuffled=True)))
    rows = []
    for place, evaluator in enumerate(evaluators):
        limit = np.quantile(chance[:, place], 0.95) if chance_resamples else np.nan
        for column, parameter in enumerate(parameters):
            share = shares[:, place, column]
            low, high = np.quantile(share, [0.05, 0.95])
            rows.append((evaluator, parameter.name, share.mean(), low, high, limit, len(worth)))
    columns = ["evaluator", "parameter", "importance", "low", "high", "chance", "n"]
    return pd.DataFrame(rows, columns=columns)


def _resampled(
    proposals: "_Proposals",
    direction: Literal["maximize", "minimize"],
    evaluators: Sequence[str],
    resamples: int,
    *,
    shuffled: bool,
) -> Iterator[np.ndarray]:
    generator = np.random.default_rng(int(shuffled))
    # In this order: Optuna's MDI gives shares to the wrong names in any other.
    names = sorted(proposals.distributions)
    for seed in range(resamples):
        drawn = generator.integers(len(proposals.values), size=min(len(proposals.values), MAX_SAMPLE))
        values = proposals.values[generator.permutation(drawn) if shuffled else drawn]
        study = optuna.create_study(direction=direction)
        study.add_trials([proposals.trial(*pair) for pair in zip(drawn, values, strict=True)])
        shares = [_shares(study, _evaluator(name, seed), names) for name in evaluators]
        yield np.array([[share[name] for name in proposals.distributions] for share in shares])


def _evaluator(name: str, seed: int) -> BaseImportanceEvaluator:
    match name:
        case "fANOVA":
            return FanovaImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=seed)
        case "MDI":
            return MeanDecreaseImpurityImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=seed)
        case "PED-ANOVA":
            return PedAnovaImportanceEvaluator()
        case _:
            raise ValueError(f"unknown evaluator {name}; there are {', '.join(EVALUATORS)}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing every resample's study."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _shares(study: optuna.Study, evaluator: BaseImportanceEvaluator, names: list[str]) -> dict[str, float]:
    try:
        return get_param_importances(study, evaluator=evaluator, params=names)
    except RuntimeError:
        # A resample in which all values are equal says nothing: everything matters alike.
        return dict.fromkeys(names, 1 / len(names))


class _Proposals:
    """The proposals in Optuna's terms."""

    def __init__(self, parameters: Sequence[Parameter], settings: pd.DataFrame, values: pd.Series) -> None:
        self.distributions = {parameter.name: _distribution(parameter) for parameter in parameters}
        self.values = values.to_numpy()
        self._settings = [_plain(parameter, settings[parameter.name]) for parameter in parameters]

    def trial(self, place: int, value: float) -> FrozenTrial:
        """Return the proposal at a place, worth a value."""
        settings = {
            name: of_all[place] for name, of_all in zip(self.distributions, self._settings, strict=True)
        }
        return create_trial(params=settings, distributions=self.distributions, value=float(value))


def _plain(parameter: Parameter, values: pd.Series) -> list[Any]:
    return values.astype(np.int64).tolist() if parameter.integer else values.tolist()


def _distribution(parameter: Parameter) -> BaseDistribution:
    if parameter.options:
        return CategoricalDistribution(parameter.options)
    if parameter.integer:
        return IntDistribution(int(parameter.low), int(parameter.high), log=parameter.log)
    return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
