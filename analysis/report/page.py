"""The page: parts are made one by one, those that cannot be made say why, and a template sets them."""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from rich.console import Console
from rich.text import Text

from analysis.ablation import ablation_table
from analysis.cautions import Kind, cautions
from analysis.load import Study, load_study
from analysis.plots.style import PANEL_IN, Chart, to_svg
from analysis.report.contents import FIRST_CAUTIONS, FIRST_PICTURE, SECTIONS, Part, Section
from analysis.report.provenance import facts, made_from, provenance, records_as_of
from analysis.report.story import tell
from analysis.tables.contents import TABLES
from analysis.tables.html import render
from analysis.tables.table import NothingToShow, Table
from study.records import RecordsError

Shape = Literal["panel", "beside", "row", "rows", "wide"]
"""How a picture stands: beside another, beside its caption, as one or more rows of panels, alone."""

REPORT: Final = "report.html"
_SHAPES: Final[Mapping[int, Shape]] = {1: "panel", 2: "row"}  # by the number of panels
_NAMES: Final[Mapping[object, str]] = {make: name.replace("_", " ") for name, make in TABLES.items()}
_HEAD_BYTES: Final = 2_000
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True)
class Picture:
    """A chart, set."""

    name: str
    title: str
    caption: str
    drawings: tuple[Markup, ...]
    shape: Shape


@dataclass(frozen=True)
class Absent:
    """A part that is not there, and why."""

    title: str
    reason: str
    is_fault: bool = False  # of this program, not of the records


@dataclass(frozen=True)
class Grid:
    """A table, set."""

    name: str
    title: str
    content: Markup
    num_rows: int


Item = Picture | Grid | Absent


@dataclass(frozen=True)
class Built:
    """A section with its parts."""

    section: Section
    items: tuple[Item, ...]
    cautions: tuple[str, ...]


def write_report(out: str | Path) -> str:
    """Write `OUT/report.html` from the records in OUT, whole or not at all, and return where it lies.

    OUT is a folder or a URI. Raises what `load_study` raises, OSError if it cannot be written.
    """
    return _write(load_study(out))


def _write(study: Study) -> str:
    study.store.write(REPORT, build_report(study).encode())
    return study.store.place(REPORT)


def show_report(out: str | Path, console: Console) -> None:
    """Say where the report of OUT lies, and write it first unless it is that of these very records.

    If it cannot be written, a warning says why. Raises what `load_study` raises.
    """
    study = load_study(out)
    try:
        if not _is_current(study):
            console.print("writing the report ...", highlight=False)
            _write(study)
    except OSError as error:
        console.print(Text(f"⚠ the report could not be written ({error})", style="yellow"), soft_wrap=True)
    else:
        place = study.store.place(REPORT)
        console.print(f"report: {place}", markup=False, highlight=False, soft_wrap=True)


def _is_current(study: Study) -> bool:
    if not study.store.exists(REPORT):
        return False
    with study.store.open(REPORT) as file:
        return made_from(study).encode() in file.read(_HEAD_BYTES)


def build_report(study: Study) -> str:
    """Return the page of a study, finished or not; the same records give the same page."""
    table = ablation_table(study)
    found = cautions(study, table)

    def of(kinds: Sequence[Kind]) -> tuple[str, ...]:
        return tuple(caution.words for caution in found if caution.kind in kinds)

    script = _read("script.js")
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    built = [
        Built(section, tuple(_laid_out(_items(study, section.parts))), of(section.cautions))
        for section in SECTIONS
    ]
    return environment.get_template("template.html").render(
        study=study,
        story=tell(study, table),
        facts=facts(study),
        first=list(_items(study, (FIRST_PICTURE,))),
        cautions=of(FIRST_CAUTIONS),
        sections=built,
        headings=[
            ("story", "The study in words"),
            *((part.section.name, part.section.title) for part in built),
            ("provenance", "What was run"),
        ],
        made_from=made_from(study),
        provenance=provenance(study),
        as_of=records_as_of(study),
        style=Markup(_read("style.css")),
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _items(study: Study, parts: Sequence[Part]) -> Iterator[Item]:
    for part in parts:
        title = _NAMES.get(part) or re.sub("_(table|chart)s?$", "", part.__name__).replace("_", " ")
        try:
            made = part(study)
            yield from [_set(thing) for thing in (made if isinstance(made, Sequence) else [made])]
        except NothingToShow as error:
            yield Absent(title, str(error))
        except (RecordsError, OSError) as error:
            yield Absent(title, f"its records cannot be read: {error}")
        except Exception as error:
            # A part that breaks must not take the report of a study of days with it.
            yield Absent(title, f"{type(error).__name__}: {error}; please report this", is_fault=True)


def _set(thing: Table | Chart) -> Item:
    if isinstance(thing, Table):
        content = render(thing).replace("<table", '<div class="scroll" tabindex="0"><table', 1)
        content = content.replace("</table>", "</table></div>", 1)
        return Grid(thing.name, thing.title, Markup(content), len(thing.rows))
    is_wide = any(drawing.get_figwidth() > 1.5 * PANEL_IN for drawing in thing.figures)
    drawings = tuple(
        _inline(to_svg(drawing, variables=True), f"{thing.name}-{index}", thing.title)
        for index, drawing in enumerate(thing.figures)
    )
    shape: Shape = "wide" if is_wide else _SHAPES.get(len(drawings), "rows")
    return Picture(thing.name, thing.title, thing.caption, drawings, shape)


def _laid_out(items: Iterable[Item]) -> Iterator[Item]:
    """Pair panels, the last with its caption beside it; what is absent comes last, by reason."""
    absent: dict[tuple[str, bool], list[str]] = {}
    present: list[Picture | Grid] = []
    for item in items:
        if isinstance(item, Absent):
            absent.setdefault((item.reason, item.is_fault), []).append(item.title)
        else:
            present.append(item)
    for is_panel, run in groupby(present, lambda item: isinstance(item, Picture) and item.shape == "panel"):
        together = list(run)
        last = together[-1]
        if is_panel and len(together) % 2 and isinstance(last, Picture):
            together[-1] = replace(last, shape="beside")
        yield from together
    for (reason, is_fault), titles in absent.items():
        yield Absent(", ".join(dict.fromkeys(titles)), reason, is_fault)


def _inline(svg: str, name: str, title: str) -> Markup:
    """Return an <svg> that can share a page with others: own names, and words for who cannot see it."""
    svg = re.sub(r"\s*<(metadata|style)\b.*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|xlink:href="#|url\(#)', lambda found: f"{found[1]}{name}-", svg)
    svg = re.sub(r"font-family: [^;\"]*; ?", "", svg)  # the page's own
    return Markup(svg.replace("<svg ", f'<svg role="img" aria-label="{escape(title)}" ', 1))
