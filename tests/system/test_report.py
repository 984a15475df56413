"""The report of the default study as its reader sees it: a real study, a real browser."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analysis.report import write_report
from tests.system.browser import DESKTOP, PHONE, SCREENS, Browser, Screen, open_browser

ROOT = Path(__file__).resolve().parents[2]


pytestmark = pytest.mark.timeout(900)  # the default study, on a machine that may be slow


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default study, from its command; a report is asked for while it runs, too (partial.html)."""
    out = tmp_path_factory.mktemp("report") / "out"
    command = [sys.executable, str(ROOT / "run_study.py"), "--space", "fsd_lcs", "--out", str(out)]
    log = out.with_name("log.txt")
    with log.open("wb") as file:
        process = subprocess.Popen(command, cwd=out.parent, stdout=file, stderr=subprocess.STDOUT)
    try:
        deadline = time.monotonic() + 300
        while not (out / "trials.parquet").exists() or pq.read_metadata(out / "trials.parquet").num_rows < 20:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(1)
        ask = [sys.executable, "-m", "analysis", str(out), "--format", "html"]
        asked = subprocess.run(ask, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert asked.returncode == 0, asked.stderr
        assert process.poll() is None
        (out / "report.html").rename(out.with_name("partial.html"))
        assert process.wait(timeout=900) == 0, log.read_text()
    finally:
        process.terminate()  # in order, so that nothing of its cluster stays
        process.wait(timeout=60)
    assert "report.html" in log.read_text()
    return out


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as opened:
        yield opened


def check(browser: Browser, path: Path, screen: Screen) -> int:
    """Look at a page: no complaint, no request, all drawings in sight, nothing beside the page."""
    seen = browser.open(path, screen)
    assert browser.messages() == []
    assert browser.requests() == []
    for drawing in seen["drawings"]:
        assert drawing["visible"] and drawing["width"] > 200 and drawing["height"] > 50, drawing
        assert drawing["smallest"] is None or drawing["smallest"] >= 8, drawing
        assert drawing["cut"] == 0, drawing
    assert seen["overflowing"] == []
    assert seen["width"] == screen.width
    return len(seen["drawings"])


@pytest.mark.parametrize("screen", SCREENS, ids=lambda screen: f"{screen.width}-{screen.theme}")
def test_report_is_whole_on_every_screen(
    study: Path, browser: Browser, screen: Screen, tmp_path: Path
) -> None:
    drawings = check(browser, study / "report.html", screen)
    assert drawings >= 15
    assert browser.run("return document.querySelectorAll('.fault').length") == 0
    dark = browser.run("return getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
    assert dark == (screen.theme == "dark")
    picture = tmp_path / "page.png"
    browser.picture(picture)
    assert picture.stat().st_size > 100_000


def test_first_screen_has_question_answer_and_picture(study: Path, browser: Browser) -> None:
    for size in (PHONE, DESKTOP):
        browser.open(study / "report.html", Screen(*size, "light"))
        bottoms = browser.run(
            "return ['h1', '.answer'].map(q => document.querySelector(q).getBoundingClientRect().bottom)"
        )
        assert max(bottoms) < size[1]
    top = browser.run("return document.querySelector('header svg').getBoundingClientRect().top")
    assert top < DESKTOP[1] / 2
    answer = browser.run("return document.querySelector('.answer').textContent")
    assert "8 paired seeds" in answer and "p = " in answer and "[" in answer


def test_button_changes_the_theme(study: Path, browser: Browser) -> None:
    browser.open(study / "report.html", Screen(*DESKTOP, "light"))
    colour = "return getComputedStyle(document.querySelector('header svg text')).fill"
    light = browser.run(colour)
    browser.run("document.getElementById('theme').click()")
    assert browser.run(colour) != light
    assert browser.messages() == []


def test_report_is_small(study: Path) -> None:
    write_report(study)
    assert (study / "report.html").stat().st_size < 8e6


def test_report_of_the_running_study_says_what_is_not_there_yet(study: Path, browser: Browser) -> None:
    partial = study.with_name("partial.html")
    check(browser, partial, Screen(*PHONE, "light"))
    text = browser.run("return document.body.innerText")
    assert "not finished: partial results" in text
    assert "No answer yet" in text
    assert browser.run("return document.querySelectorAll('.fault').length") == 0
