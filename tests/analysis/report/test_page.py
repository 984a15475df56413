import base64
import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
from rich.console import Console

from analysis.cautions import Kind
from analysis.load import Study, load_study
from analysis.plots.style import VARIABLES, Chart, figure
from analysis.report import build_report, page, show_report, write_report
from analysis.report.contents import FIRST_CAUTIONS, FIRST_PICTURE, SECTIONS, Section
from analysis.tables.ablation_paper import paper_table
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table
from study.records import RecordsError, Store

VALUES = {
    "acmnet": [40.0] * 8,
    "cont": [41.0, 42, 43, 44, 45, 46, 47, 48],
    "+FSD": [43.0, 44, 45, 46.5, 47, 48, 49, 50],
    "+LCS": [41.5, 41.5, 43.5, 43.5, 45.5, 45.5, 47.5, 47.5],
    "FSD+LCS": [44.0, 45, 46, 47, 48, 49.5, 50, 51],
    "shuffled order": [41.0, 42, 43, 44, 45, 46, 47, 48],
}


class Page(HTMLParser):
    """What a test asks of a page: its elements with their attributes, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self._hidden = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        self.text += "" if self._hidden else data

    def all(self, attribute: str) -> list[str]:
        return [value for _, found in self.elements if (value := found.get(attribute)) is not None]


def some_table(study: Study) -> Table:
    return Table("some", "A table", (Column("arm"),), (Row((Cell("<b>bold</b>"),)),), pd.DataFrame())


def some_chart(study: Study) -> Chart:
    drawing, axes = figure()
    axes.plot([0, 1], [1, 2], marker="o", label="<arm> & more")
    axes.legend()
    return Chart("some_picture", "A picture", "What it shows, n = 2.", (drawing,))


def some_charts(study: Study) -> list[Chart]:
    return [replace(some_chart(study), name=name) for name in ("one", "other")]


def empty_chart(study: Study) -> Chart:
    raise NothingToShow("this study has no search")


def void_charts(study: Study) -> list[Chart]:
    raise NothingToShow("this study has no search")


def unreadable_table(study: Study) -> Table:
    raise RecordsError("predictions/3.parquet is missing")


def broken_table(study: Study) -> Table:
    raise ZeroDivisionError("a mistake")


def with_parts(monkeypatch: pytest.MonkeyPatch, *parts: object) -> None:
    """Let reports have one section, of these parts."""
    monkeypatch.setattr(page, "FIRST_PICTURE", some_chart)
    monkeypatch.setattr(page, "SECTIONS", (Section("only", "The only section", "", parts),))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep reports to parts that cost nothing."""
    with_parts(monkeypatch, some_table, some_chart)


def test_report_is_one_file_beside_the_records_and_the_same_again(
    write_study: Callable[..., Path],
) -> None:
    out = write_study(VALUES)
    assert write_report(out) == f"{out}/report.html"
    first = (out / "report.html").read_text()
    write_report(out)
    assert (out / "report.html").read_text() == first
    assert "Do the losses help?" in first and "The only section" in first


def test_report_is_written_anew_only_if_records_have_changed(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def show() -> str:
        console = Console(record=True, file=io.StringIO(), width=300)
        show_report(out, console)
        return console.export_text()

    out = write_study(VALUES)
    assert "writing the report" in show()
    assert show() == f"report: {out}/report.html\n"
    write_study({**VALUES, "+FSD": VALUES["FSD+LCS"]})
    assert "writing the report" in show()

    def fail(*_: object) -> None:
        raise OSError("no space left on device")

    write_study(VALUES)
    monkeypatch.setattr(Store, "write", fail)
    assert "could not be written (no space left on device)" in show()


def test_long_tables_are_folded(write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def long_table(study: Study) -> Table:
        return replace(some_table(study), name="long", rows=some_table(study).rows * 30)

    with_parts(monkeypatch, some_table, long_table)
    seen = Page(build_report(load_study(write_study(VALUES))))
    tags = [tag for tag, _ in seen.elements]
    assert tags.count("table") == 2
    assert tags.count("details") == 3  # with the search space and the changes of the source


def test_everything_from_records_is_escaped(write_study: Callable[..., Path]) -> None:
    script = "<script>alert(1)</script>"
    content = write_study(VALUES)
    study = load_study(content)
    space = {**study.manifest["space"], "title": script, "definition": {"name": script}}
    changes = {"space": space, "command": [script], "winner": {script: script}, "versions": {script: script}}
    out = write_study({**VALUES, "+FSD": [script] * 8}, **changes)
    text = build_report(load_study(out))
    assert script not in text
    assert [tag for tag, _ in Page(text).elements].count("script") == 1
    assert Page(text).text.count("alert(1)") >= 5
    assert "<b>" not in text
    assert "&lt;arm&gt; &amp; more" in text


def test_page_asks_for_nothing_and_runs_only_its_own_script(write_study: Callable[..., Path]) -> None:
    text = build_report(load_study(write_study(VALUES)))
    seen = Page(text)
    policy = next(found["content"] for tag, found in seen.elements if tag == "meta" and "http-equiv" in found)
    assert policy is not None and "default-src 'none'" in policy and "http" not in policy
    script = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert {tag for tag, _ in seen.elements} & {"link", "iframe", "object", "embed", "form", "base"} == set()
    sources = seen.all("src") + seen.all("xlink:href") + seen.all("href")
    assert sources and all(source.startswith(("#", "data:")) for source in sources)
    assert not re.search(r"url\((?!#)|@import", text)


def test_names_on_the_page_are_unique_and_its_contents_lead_to_them(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, some_table, some_charts)
    seen = Page(build_report(load_study(write_study(VALUES))))
    names = seen.all("id")
    assert len(names) == len(set(names))
    assert {link[1:] for link in seen.all("href")} <= set(names)


def test_every_colour_of_the_pictures_has_a_light_and_a_dark_value() -> None:
    css = Path(page.__file__).with_name("style.css").read_text()
    for colour, name in VARIABLES.items():
        values = re.search(rf"{name}: light-dark\((#[0-9a-f]{{6}}), (#[0-9a-f]{{6}})\);", css)
        assert values is not None, name
        assert values[1] != values[2]
        if name != "--muted":  # as text it needs more contrast than as a line
            assert values[1] == colour


@pytest.mark.situation(
    "input",
    "the records have nothing for a part of the report, or not all that it needs",
    "the part's place says why; everything else is there",
)
def test_parts_that_cannot_be_made_say_why(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, empty_chart, void_charts, unreadable_table, broken_table, some_table)
    text = Page(build_report(load_study(write_study(VALUES)))).text
    assert "Empty, void: this study has no search" in text
    assert "Unreadable: its records cannot be read: predictions/3.parquet is missing" in text
    assert "Broken: ZeroDivisionError: a mistake; please report this" in text
    assert "A table" in text


@pytest.mark.situation(
    "input",
    "a report is asked for while the study runs, or of a study that was interrupted",
    "a partial report, which says so and names what is missing",
)
def test_report_of_an_unfinished_study_says_so(write_study: Callable[..., Path]) -> None:
    values = {"cont": [41.0, 42.0, "running"], "+FSD": [43.0, "waiting"], "+LCS": [44.0]}
    text = Page(build_report(load_study(write_study(values, finished=False, winner=None)))).text
    assert "not finished: partial results" in text
    assert "No answer yet on score" in text
    assert "no result" in text


@pytest.mark.situation("input", "a report is asked for before any trial has ended", "a page that says so")
def test_report_of_a_study_that_has_just_begun(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_parts(monkeypatch, paper_table)
    out = write_study({}, finished=False, winner=None)
    text = Page(build_report(load_study(out))).text
    assert "No answer yet" in text and "is to be trained on watch" in text
    assert "Ablation: no run of the ablation has finished" in text


def test_cautions_stand_where_they_are_needed(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "SECTIONS", [section._replace(parts=()) for section in SECTIONS])
    text = Page(build_report(load_study(write_study(VALUES, protocol="reference")))).text
    first, _, rest = text.partition("Contents")
    assert "Before you conclude" in first and "chosen on the test videos" in first
    assert "Read with care" in rest
    ablation = next(section for section in SECTIONS if section.name == "ablation")
    assert "tuning" in ablation.cautions  # it limits what the ablation shows, not the search
    kinds = [kind for section in SECTIONS for kind in section.cautions] + list(FIRST_CAUTIONS)
    assert sorted(kinds) == sorted(get_args(Kind))


def test_a_gate_is_on_the_first_screen_and_the_first_seeds_are_beside_those_that_passed(
    write_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = SECTIONS[0].parts
    monkeypatch.setattr(page, "SECTIONS", [section._replace(parts=()) for section in SECTIONS])
    gate = {"metric": "score", "at_least": 30.0}
    seeds = {"ablation": {"ungated": list(range(100, 104)), "gated": [100, 101, 104, 105]}}
    study = load_study(write_study(VALUES, gate=gate, seeds=seeds))
    first, _, _ = Page(build_report(study)).text.partition("Contents")
    assert "Only seeds count whose pretrained model reached score = 30" in first
    passed, unpassed = [item for item in page._items(study, parts[:2]) if isinstance(item, page.Grid)]
    assert (passed.name, unpassed.name) == ("comparisons", "comparisons_first_seeds")
    assert "first seeds, whether they pass the gate or not" in unpassed.title
    assert passed.content != unpassed.content
    assert len(list(page._items(load_study(write_study(VALUES)), parts[:2]))) == 1


def test_no_part_of_a_small_study_is_broken(write_study: Callable[..., Path]) -> None:
    for values in (VALUES, {"cont": [41.0]}, {}):
        study = load_study(write_study(values))
        parts = [part for section in SECTIONS for part in section.parts]
        items = page._items(study, [FIRST_PICTURE, *parts])
        assert [item.reason for item in items if isinstance(item, page.Absent) and item.is_fault] == []
