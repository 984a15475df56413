"""The tables of a study, in the order in which they are shown."""

from collections.abc import Callable, Mapping
from typing import Final

from analysis.bootstrap import video_bootstrap_table
from analysis.intervals import IntervalKind
from analysis.load import Study
from analysis.localization.errors import errors_table
from analysis.tables.ablation_paper import paper_table
from analysis.tables.best import best_table
from analysis.tables.comparisons import comparisons_table
from analysis.tables.cost import cost_table
from analysis.tables.grid import grid_table
from analysis.tables.pretraining import pretraining_table
from analysis.tables.selection_bias import selection_bias_table
from analysis.tables.sensitivity import sensitivity_table
from analysis.tables.table import Table

TABLES: Final[Mapping[str, Callable[..., Table]]] = {
    "ablation": paper_table,
    "comparisons": comparisons_table,
    "grid": grid_table,
    "sensitivity": sensitivity_table,
    "pretraining": pretraining_table,
    "best": best_table,
    "selection_bias": selection_bias_table,
    "video_bootstrap": video_bootstrap_table,
    "errors": errors_table,
    "cost": cost_table,
}
"""Name -> function of one study or of several (`paper_table(study)`, `paper_table(first, second)`)."""

_WITH_INTERVALS: Final = {"ablation", "comparisons", "grid"}


def make_table(name: str, *studies: Study, intervals: IntervalKind = "t") -> Table:
    """Return a table by its name; raises NothingToShow if the records have nothing for it."""
    return TABLES[name](*studies, **({"intervals": intervals} if name in _WITH_INTERVALS else {}))
