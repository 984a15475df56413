"""What a report holds, in order: sections, and the functions of other modules that make their parts."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from analysis.load import Study
from analysis.plots.style import Chart
from analysis.tables.table import Table

Part = Callable[[Study], Table | Chart | Sequence[Table] | Sequence[Chart]]


class Section(NamedTuple):
    """A heading, what it is about in a sentence, and its parts in order."""

    name: str  # of its anchor
    title: str
    lead: str
    parts: tuple[Part, ...]


FIRST_PICTURE: Final[tuple[Part, ...]] = ()

SECTIONS: Final[tuple[Section, ...]] = ()
