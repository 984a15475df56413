"""Writing and printing the ablation of a study's records."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from analysis._text import main_metrics, missing_notes, sections, selection_titles, table_title
from analysis.ablation import ablation_table
from analysis.conclusion import conclude
from analysis.intervals import IntervalKind
from analysis.load import Study, load_study
from analysis.markdown import ablation_markdown
from analysis.tables.comparisons import interval_note
from study.records import Store

FORMATS: Final = ("csv", "md")


@dataclass(frozen=True)
class AblationFiles:
    """What was written: a path or URI for each format."""

    paths: Mapping[str, str]


def write_ablation(out: str | Path, formats: Collection[str] = FORMATS) -> AblationFiles:
    """Write `OUT/ablation.<format>` from the records in OUT, each file whole or not at all.

    OUT is a folder or a URI. Raises what `load_study` raises, ValueError on an unknown format.
    """
    _require_known(formats)
    study = load_study(out)
    return write_ablation_of(study, study.store, formats)


def print_ablation(out: str | Path, console: Console) -> None:
    """Print the tables of OUT on its main metrics, and what they support.

    Raises what `load_study` raises.
    """
    print_ablation_of(load_study(out), console)


def show_ablation(out: str | Path, console: Console, formats: Collection[str] = FORMATS) -> AblationFiles:
    """Print the tables of OUT and write them there; what cannot be written is a warning, and left out.

    Raises what `load_study` raises, ValueError on an unknown format.
    """
    _require_known(formats)
    study = load_study(out)
    print_ablation_of(study, console)
    try:
        return write_ablation_of(study, study.store, formats)
    except OSError as error:
        warning = f"⚠ the tables could not be written ({error}); a copy of the study elsewhere can be"
        console.print(Text(warning, style="yellow"), soft_wrap=True)
        return AblationFiles({})


def print_ablation_of(study: Study, console: Console, intervals: IntervalKind = "t") -> None:
    """Print the ablation of a study that has been read."""
    _print(study, ablation_table(study, intervals), intervals, console)


def write_ablation_of(
    study: Study, store: Store, formats: Collection[str], intervals: IntervalKind = "t"
) -> AblationFiles:
    """Write the ablation of a study that has been read into its own store or into another."""
    table = ablation_table(study, intervals)
    paths = {}
    for name in formats:
        text = (
            ablation_markdown(study, table, intervals)
            if name == "md"
            else table.to_csv(index=False, lineterminator="\n")
        )
        store.write(f"ablation.{name}", text.encode())
        paths[name] = store.place(f"ablation.{name}")
    return AblationFiles(paths)


def _require_known(formats: Collection[str]) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ValueError(f"unknown format {unknown[0]}; there are {', '.join(FORMATS)}")


def _print(study: Study, table: pd.DataFrame, intervals: IntervalKind, console: Console) -> None:
    titles = selection_titles(study)
    console.print()
    console.print(Text(study.title, style="bold"))
    for selection, seeds in study.selections.items():
        rows = table if study.gate is None else table[table["seeds"] == selection]
        for metric in main_metrics(study):
            console.print(Text(table_title(study, metric)))
            if titles:
                console.print(Text(titles[selection]))
            console.print()
            console.print(_table(study, rows, metric))
            console.print()
        notes = missing_notes(study, seeds)
        if notes:
            console.print(Text("missing", style="italic dim"))
            console.print(Text("\n".join(f"⚠ {note}" for note in notes), style="yellow"))
            console.print()
    if intervals != "t":
        console.print(Text(interval_note(table, intervals), style="yellow"))
        console.print()
    console.print(Text(conclude(study, table)))


def _table(study: Study, rows: pd.DataFrame, metric: str) -> Table:
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    grid.add_column("arm", min_width=16)
    for name in ("seeds", "mean ± sd", "diff", "95 % interval", "p Holm", "wins"):
        grid.add_column(name, justify="right", no_wrap=True)
    for index, section in enumerate(sections(study, rows, metric)):
        if index:
            grid.add_section()
        grid.add_row(Text(section.title, style="italic dim"))
        for line in section.lines:
            cells = (line.arm, line.seeds, line.mean, line.diff, line.interval, line.p_holm, line.wins)
            style = "bold" if line.shown else "yellow" if line.partial else ""
            grid.add_row(*(Text(cell) for cell in cells), style=style)
    return grid
