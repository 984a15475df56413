"""What a report holds, in order: sections, and the functions of other modules that make their parts."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, NamedTuple, get_args

from analysis.bootstrap import video_bootstrap_table
from analysis.cautions import Kind, OfComparisons, OfStudy
from analysis.load import Study
from analysis.localization.errors import errors_table
from analysis.plots.ablation import ablation_chart
from analysis.plots.alignment import alignment_charts
from analysis.plots.contours import contours_chart
from analysis.plots.curves import arm_curves_chart, curves_chart
from analysis.plots.errors import errors_charts
from analysis.plots.importance import importance_chart
from analysis.plots.parallel import parallel_chart
from analysis.plots.pretraining import pretraining_chart
from analysis.plots.regret import regret_chart
from analysis.plots.rungs import rungs_chart
from analysis.plots.selection_bias import selection_bias_chart
from analysis.plots.sensitivity import grid_chart, sensitivity_chart
from analysis.plots.slices import slices_chart
from analysis.plots.style import Chart
from analysis.plots.timeline import timeline_charts
from analysis.tables.ablation_paper import paper_table
from analysis.tables.best import best_table
from analysis.tables.comparisons import comparisons_table
from analysis.tables.cost import cost_table
from analysis.tables.grid import grid_table
from analysis.tables.pretraining import pretraining_table
from analysis.tables.selection_bias import selection_bias_table
from analysis.tables.sensitivity import sensitivity_table
from analysis.tables.table import Table

Part = Callable[[Study], Table | Chart | Sequence[Table] | Sequence[Chart]]


class Section(NamedTuple):
    """A heading, what it is about, its parts in order, and the kinds of cautions that its reader needs."""

    name: str  # of its anchor
    title: str
    lead: str
    parts: tuple[Part, ...]
    cautions: tuple[Kind, ...] = ()


def first_seeds_tables(study: Study) -> list[Table]:
    """Return the comparisons on the first seeds, passed or not; none without a gate that is decided."""
    if study.gated_seeds is None:
        return []
    table = comparisons_table(replace(study, gated_seeds=None))
    title = f"The same on the first seeds, whether they pass the gate or not. {table.title}"
    return [replace(table, name="comparisons_first_seeds", title=title)]


FIRST_PICTURE: Final = ablation_chart
FIRST_CAUTIONS: Final[tuple[Kind, ...]] = get_args(OfStudy)

SECTIONS: Final[tuple[Section, ...]] = (
    Section(
        "ablation",
        "Which part matters",
        "Every arm leaves a part of the method out, or puts something else in its place. All arms share "
        "their seeds, so that a difference is taken seed by seed.",
        (
            comparisons_table,
            first_seeds_tables,
            paper_table,
            grid_chart,
            grid_table,
            video_bootstrap_table,
            arm_curves_chart,
        ),
        get_args(OfComparisons),
    ),
    Section(
        "pretraining",
        "Pretrained models",
        "What the arms start from: how much it owes to its seed, and what comes of it.",
        (pretraining_chart, pretraining_table),
    ),
    Section(
        "search",
        "The search",
        "Which settings were tried, which of them matter to the objective, and how the search went. All of "
        "this is exploration: it chose the settings, and supports no claim about the method.",
        (
            best_table,
            sensitivity_chart,
            sensitivity_table,
            importance_chart,
            regret_chart,
            slices_chart,
            contours_chart,
            parallel_chart,
            curves_chart,
            rungs_chart,
        ),
    ),
    Section(
        "selection",
        "What choosing adds",
        "The best of several noisy values is better than it will be again. How much of a result is such luck "
        "can be seen where the choice is judged on other data than those that it was made on.",
        (selection_bias_chart, selection_bias_table),
    ),
    Section(
        "localization",
        "What the models do",
        "A few test videos as two arms see them, how pairs of videos align, and the errors that the "
        "detections make.",
        (timeline_charts, alignment_charts, errors_charts, errors_table),
    ),
    Section("cost", "What it cost", "Computing time of every part of the study.", (cost_table,)),
)
