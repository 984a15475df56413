"""What the notebooks need beside the library: parts of the report in a cell, or why there is nothing."""

import base64
import warnings
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from IPython.display import HTML, Markdown, display

from analysis.load import Study, load_study
from analysis.plots.style import Chart, to_png
from analysis.tables.html import render
from analysis.tables.table import NothingToShow, Table
from study.records import RecordsError

# Optuna's progress bars, which nobody draws here, would like another package.
warnings.filterwarnings("ignore", message="IProgress not found")

_ROOT: Final = Path(__file__).resolve().parents[1]
_PX_PER_IN: Final = 96
_STYLE: Final = """<style>
.study { overflow-x: auto; }
.study th, .study td { padding: 0.2em 0.6em; text-align: right; font-weight: normal; }
.study td, .study th[scope=row] { white-space: nowrap; }
.study .left, .study .section th { text-align: left; }
.study .center { text-align: center; }
.study thead th, .study .section th, .study .best { font-weight: bold; }
.study ul { max-width: 60em; }
</style>"""


def open_study(out: str) -> Study:
    """Load a study; a relative path is looked for here, then in the checkout. Raises as `load_study` does."""
    beside = _ROOT / out
    return load_study(beside if "://" not in out and not Path(out).exists() and beside.exists() else out)


def open_shipped(out: str, space: str) -> Study | None:
    """Load a study that a notebook uses beside its own; None, and how to make it, if it is not there."""
    try:
        return open_study(out)
    except RecordsError as error:
        _say(f"{error}. `python run_study.py --space {space}` makes it")
        return None


def show(part: Callable[..., Table | Chart | Sequence[Table] | Sequence[Chart]], *arguments: Any) -> None:
    """Show the tables or charts that a function makes, or why it makes none.

    Nothing is shown for a study that is None: `open_shipped` has said why.
    """
    if any(argument is None for argument in arguments):
        return
    try:
        made = part(*arguments)
    except (NothingToShow, RecordsError) as reason:
        _say(f"Nothing to show here: {reason}")
        return
    for thing in made if isinstance(made, Sequence) else [made]:
        display(HTML(_table(thing) if isinstance(thing, Table) else _chart(thing)))


def show_list(items: Iterable[str]) -> None:
    """Show sentences as a list."""
    display(Markdown("\n".join(f"- {escape(item)}" for item in items)))


def _say(words: str) -> None:
    display(Markdown(f"*{words}.*"))


def _table(table: Table) -> str:
    return f'<h4>{escape(table.title)}</h4>\n<div class="study">{_STYLE}\n{render(table)}</div>'


def _chart(chart: Chart) -> str:
    pictures = "".join(
        f'<img alt="{escape(chart.title)}" style="max-width: 100%" '
        f'width="{round(_PX_PER_IN * drawing.get_figwidth())}" '
        f'src="data:image/png;base64,{base64.b64encode(to_png(drawing)).decode()}">'
        for drawing in chart.figures
    )
    return (
        f"<h4>{escape(chart.title)}</h4>\n"
        f'<div style="display: flex; flex-wrap: wrap; gap: 1em; align-items: flex-start">{pictures}</div>\n'
        f'<p style="max-width: 46em">{escape(chart.caption)}</p>'
    )
