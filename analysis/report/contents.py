"""What a report holds, in order: sections, and the functions of other modules that make their parts."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from analysis.load import Study
from analysis.plots.ablation import ablation_chart
from analysis.plots.contours import contours_chart
from analysis.plots.curves import arm_curves_chart, curves_chart
from analysis.plots.importance import importance_chart
from analysis.plots.parallel import parallel_chart
from analysis.plots.pretraining import pretraining_chart
from analysis.plots.regret import regret_chart
from analysis.plots.rungs import rungs_chart
from analysis.plots.slices import slices_chart
from analysis.plots.style import Chart
from analysis.plots.timeline import timeline_charts
from analysis.tables.ablation_paper import paper_table
from analysis.tables.table import Table

Part = Callable[[Study], Table | Chart | Sequence[Table] | Sequence[Chart]]


class Section(NamedTuple):
    """A heading, what it is about in a sentence or two, and its parts in order."""

    name: str  # of its anchor
    title: str
    lead: str
    parts: tuple[Part, ...]


FIRST_PICTURE: Final = ablation_chart

SECTIONS: Final[tuple[Section, ...]] = (
    Section(
        "ablation",
        "Which part matters",
        "Every arm leaves a part of the method out or puts something else in its place. All arms of a seed "
        "start from the same pretrained model, so that they differ in nothing else.",
        (paper_table, arm_curves_chart),
    ),
    Section(
        "pretraining",
        "Pretraining",
        "The models that all arms start from: how much they owe to their seed, and which of them count.",
        (pretraining_chart,),
    ),
    Section(
        "search",
        "The search and its settings",
        "Which settings were tried, which of them matter to the objective, and how the search went. All of "
        "this is exploration: it chose the settings, and supports no claim about the method.",
        (
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
        "localization",
        "What the models do",
        "The same test videos as two arms see them, and the errors that their detections make.",
        (timeline_charts,),
    ),
)
