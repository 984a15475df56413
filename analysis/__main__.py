"""`python -m analysis OUT`: the tables and the report of a study from its folder alone."""

import argparse
import sys
import textwrap
from collections.abc import Collection, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text

from analysis._words import join
from analysis.intervals import IntervalKind
from analysis.load import Study, load_study
from analysis.output import FORMATS, print_ablation_of, write_ablation_of
from analysis.tables import terminal
from analysis.tables.contents import TABLES, make_table
from analysis.tables.files import FOLDER, RENDERERS, make_tables, write_tables
from analysis.tables.table import NothingToShow
from analysis.tables.trace import cell_lines, find_cells, trials_table
from study.records import Store, open_store

_REPORT: Final = "html"
_ALL_FORMATS: Final = (*RENDERERS, _REPORT)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if all was done; 2 if OUT cannot be read, or --to not be written, or an option is wrong."""
    options = _parser().parse_args(arguments)
    console = Console()
    try:
        if options.trace:
            _require_no_files(options)
        formats = _chosen(options.format, _ALL_FORMATS, "format") or tuple(RENDERERS)
        names = _chosen(options.table, TABLES, "table") or tuple(TABLES)
        studies = [load_study(out) for out in options.out]
        if options.trace:
            _trace(studies, options.trace, options.intervals, console)
        else:
            _run(studies, names, formats, options, console)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis",
        usage="python -m analysis OUT [OUT ...] [options]",  # argparse would put OUT behind --trace's names
        description="Make the tables of a study again from its records, print and write them. A copy of the "
        "folder will do: neither the data nor torch are needed. An unfinished study gives tables with gaps. "
        "Several studies are set side by side, a dataset a column.",
    )
    parser.add_argument("out", metavar="OUT", nargs="+", help="the folder or URI that a study wrote to")
    parser.add_argument(
        "--format",
        metavar="LIST",
        help=f"what to write, separated by commas, of {', '.join(_ALL_FORMATS)}; html is the report of each "
        f"study, with plots (default: {','.join(RENDERERS)})",
    )
    parser.add_argument(
        "--table", metavar="LIST", help=f"only these, separated by commas, of {', '.join(TABLES)}"
    )
    parser.add_argument(
        "--intervals",
        choices=("t", "bca"),
        default="t",
        help="95 %% intervals of differences: paired t, or BCa bootstrap; their measured coverage is printed",
    )
    parser.add_argument(
        "--trace",
        nargs="+",
        metavar=("TABLE", "ROW"),
        help="print which trials a table's cells rest on, and write nothing: TABLE, TABLE ROW or TABLE ROW "
        "COLUMN; comes after OUT, goes with --intervals only",
    )
    parser.add_argument(
        "--to", metavar="DIR", help="write there and not into OUT; several studies are only printed without"
    )
    return parser


def _require_no_files(options: argparse.Namespace) -> None:
    """Raise ValueError if --trace, which only prints, is given with an option about what to write."""
    others = [f"--{name}" for name in ("format", "table", "to") if getattr(options, name) is not None]
    if others:
        raise ValueError(f"--trace prints cells of its TABLE and writes nothing: leave out {join(others)}")


def _chosen(text: str | None, known: Collection[str], what: str) -> tuple[str, ...]:
    """Return the names in a list with commas, none if it was not given; ValueError on an unknown one."""
    names = () if text is None else tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        _require_known(name, known, what)
    return names


def _require_known(name: str, known: Collection[str], what: str) -> None:
    if name not in known:
        raise ValueError(
            f"{f'unknown {what} {name}' if name else f'empty {what}'}; there are {', '.join(known)}"
        )


def _run(
    studies: Sequence[Study],
    names: Sequence[str],
    formats: Sequence[str],
    options: argparse.Namespace,
    console: Console,
) -> None:
    alone = studies[0] if len(studies) == 1 else None
    for study in studies:
        if not study.finished:
            _warn(console, f"{study.store} is not finished: its tables show what there is so far")
    if formats == (_REPORT,) and not options.table:
        _write_reports(studies, open_store(options.to) if options.to else None, options.intervals, console)
        return
    if alone is not None and not options.table:
        print_ablation_of(alone, console, options.intervals)
        console.print()
    made = make_tables(studies, names, intervals=options.intervals)
    for table in made.tables:
        # What it says has just been printed, with the missing runs and the conclusion.
        if alone is None or options.table or table.name != "comparisons":
            terminal.show(table, console)
            console.print()
    for name, reason in made.absent.items():
        console.print(Text(f"no table {name}: {reason}", style="dim"), soft_wrap=True)
    store = open_store(options.to) if options.to else None if alone is None else alone.store
    if store is None:
        _warn(console, "not written, as these are several studies: say where with --to DIR")
        return
    try:
        if alone is not None and not options.table:
            kinds = [name for name in formats if name in FORMATS]
            places = write_ablation_of(alone, store, kinds, options.intervals).paths.values()
            _tell(console, ", ".join(places))
        kinds = [name for name in formats if name in RENDERERS]
        if kinds and write_tables(made, store, kinds):
            files = ", ".join(table.name for table in made.tables)
            _tell(console, f"{store.place(FOLDER)}: {files} as {', '.join(kinds)}")
        if _REPORT in formats:
            _write_reports(studies, store if options.to else None, options.intervals, console)
    except OSError as error:
        if options.to:
            raise
        _warn(console, f"the tables could not be written ({error}); --to DIR writes elsewhere")


def _write_reports(
    studies: Sequence[Study], store: Store | None, intervals: IntervalKind, console: Console
) -> None:
    """Write the report of each study: into its folder, or into the one that was asked for."""
    from analysis.report.page import REPORT, build_report  # draws pictures: slow to import

    if intervals != "t":
        _warn(console, f"the report always shows paired-t intervals; {intervals} is for the tables")
    if len(studies) > 1:
        console.print("a report is of one study: each gets its own", soft_wrap=True)
    for number, study in enumerate(studies, 1):
        place = study.store if store is None else store
        name = REPORT if store is None or len(studies) == 1 else f"{number}-{study.name}-{REPORT}"
        place.write(name, build_report(study).encode())
        _tell(console, place.place(name))


def _trace(studies: Sequence[Study], asked: Sequence[str], kind: IntervalKind, console: Console) -> None:
    name, row, column, *others = (*asked, None, None)[: max(3, len(asked))]
    if others or name is None:
        raise ValueError("--trace takes TABLE, TABLE ROW or TABLE ROW COLUMN")
    _require_known(name, TABLES, "table")
    try:
        table = make_table(name, *studies, intervals=kind)
    except NothingToShow as error:
        raise ValueError(f"there is no table {name}: {error}") from error
    found = find_cells(table, studies, row, column)
    if column is None:
        console.print(Text(f"Trials behind the cells: {table.title}", style="bold"))
        for line in cell_lines(found):
            for piece in textwrap.wrap(line, console.width, subsequent_indent="    "):
                console.print(Text(piece), soft_wrap=True)
        return
    for cell in found:
        try:
            terminal.show(trials_table(cell), console)
        except NothingToShow as error:
            console.print(Text(f"{error}"), soft_wrap=True)
        console.print()


def _tell(console: Console, what: str) -> None:
    if what:
        console.print(f"written: {what}", soft_wrap=True, markup=False, highlight=False)


def _warn(console: Console, what: str) -> None:
    console.print(Text(f"⚠ {what}", style="yellow"), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
