"""What a report holds, in order: sections, and the functions of other modules that make their parts."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from analysis.load import Study
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


FIRST_PICTURE: Final[tuple[Part, ...]] = ()

SECTIONS: Final[tuple[Section, ...]] = (
    Section(
        "ablation",
        "Which part of the method matters",
        "Every arm leaves something out or puts something else in its place; all arms of a seed start from "
        "the same pretrained model.",
        (paper_table,),
    ),
    Section(
        "localization",
        "What the models do",
        "The same test videos as two arms see them.",
        (timeline_charts,),
    ),
)
