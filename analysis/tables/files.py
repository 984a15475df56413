"""All tables of one study or of several, made and written as files."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, NamedTuple

from analysis.intervals import IntervalKind
from analysis.load import Study
from analysis.tables import latex, markdown
from analysis.tables.contents import make_table
from analysis.tables.table import NothingToShow, Table
from study.records import RecordsError, Store

FOLDER: Final = "tables"


def render_csv(table: Table) -> str:
    """Return the long form behind a table, at full precision."""
    return table.long.to_csv(index=False, lineterminator="\n")


RENDERERS: Final[Mapping[str, Callable[[Table], str]]] = {
    "csv": render_csv,
    "md": markdown.render,
    "tex": latex.render,
}


class MadeTables(NamedTuple):
    """The tables that the records have something for, and why the others are not there."""

    tables: tuple[Table, ...]
    absent: Mapping[str, str]  # name -> reason


def make_tables(
    studies: Sequence[Study], names: Collection[str], *, intervals: IntervalKind = "t"
) -> MadeTables:
    """Return the tables of these names (analysis.tables.contents.TABLES)."""
    tables, absent = [], {}
    for name in names:
        try:
            tables.append(make_table(name, *studies, intervals=intervals))
        except NothingToShow as error:
            absent[name] = str(error)
        except RecordsError as error:
            absent[name] = f"its records cannot be read: {error}"
    return MadeTables(tuple(tables), absent)


def write_tables(made: MadeTables, store: Store, formats: Collection[str]) -> list[str]:
    """Write `tables/<name>.<format>` and return where they lie; OSError if that cannot be done.

    What earlier records gave, and these do not, is deleted: a paper shall not include it by mistake.
    """
    for absent in made.absent:
        for name in formats:
            store.delete(f"{FOLDER}/{absent}.{name}")
    places = []
    for table in made.tables:
        for name in formats:
            file = f"{FOLDER}/{table.name}.{name}"
            store.write(file, RENDERERS[name](table).encode())
            places.append(store.place(file))
    return places
