"""The page: parts are made one by one, those that cannot be made say why, and a template sets them."""

import base64
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from analysis._text import main_metrics, sections, table_title
from analysis.ablation import ablation_table, main_table
from analysis.load import Study, load_study
from analysis.plots.style import WIDE_IN, Chart, to_svg
from analysis.report.contents import FIRST_PICTURE, SECTIONS, Part, Section
from analysis.report.provenance import provenance
from analysis.report.story import tell
from analysis.tables.table import NothingToShow, Table
from study.records import RecordsError

REPORT: Final = "report.html"
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Picture:
    """A chart, set."""

    name: str
    title: str
    caption: str
    drawings: tuple[Markup, ...]
    wide: bool


@dataclass(frozen=True)
class Absent:
    """A part that is not there, and why."""

    name: str
    title: str
    reason: str
    is_fault: bool = False  # of this program, not of the records


Item = Picture | Table | Absent


@dataclass(frozen=True)
class Built:
    """A section with its parts."""

    section: Section
    items: tuple[Item, ...]


def write_report(out: str | Path) -> str:
    """Write `OUT/report.html` from the records in OUT, whole or not at all, and return where it lies.

    OUT is a folder or a URI. Raises what `load_study` raises, OSError if it cannot be written.
    """
    study = load_study(out)
    study.store.write(REPORT, build_report(study).encode())
    return study.store.place(REPORT)


def build_report(study: Study) -> str:
    """Return the page of a study, finished or not; the same records give the same page."""
    table = ablation_table(study)
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_FOLDER / "script.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("template.html").render(
        study=study,
        story=tell(study, table),
        comparisons=[
            (metric, table_title(study, metric), sections(study, main_table(study, table), metric))
            for metric in main_metrics(study)
        ],
        first=[item for part in FIRST_PICTURE for item in _items(study, part)],
        sections=[
            Built(section, tuple(item for part in section.parts for item in _items(study, part)))
            for section in SECTIONS
        ],
        provenance=provenance(study),
        kind=lambda item: type(item).__name__.lower(),
        style=Markup((_FOLDER / "style.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_digest=digest,
    )


def _items(study: Study, part: Part) -> Iterator[Item]:
    name = part.__name__
    title = name.removesuffix("_chart").removesuffix("_charts").removesuffix("_table").replace("_", " ")
    try:
        made = part(study)
        for thing in made if isinstance(made, Sequence) else [made]:
            yield _picture(thing) if isinstance(thing, Chart) else thing
    except NothingToShow as error:
        yield Absent(name, title, str(error))
    except (RecordsError, OSError) as error:
        yield Absent(name, title, f"its records cannot be read: {error}")
    except Exception as error:
        # One part that breaks must not take the whole report of a long study with it.
        yield Absent(name, title, f"{type(error).__name__}: {error}", is_fault=True)


def _picture(chart: Chart) -> Picture:
    wide = any(drawing.get_figwidth() > WIDE_IN * 0.75 for drawing in chart.figures)
    drawings = tuple(
        _inline(to_svg(drawing, variables=True), f"{chart.name}-{index}", chart.title)
        for index, drawing in enumerate(chart.figures)
    )
    return Picture(chart.name, chart.title, chart.caption, drawings, wide)


def _inline(svg: str, name: str, title: str) -> Markup:
    """Return an <svg> that can share a page with others: own names, and words for who cannot see it."""
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"\s*<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', rf"\1{re.escape(name)}-", svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)  # the page's own
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))
