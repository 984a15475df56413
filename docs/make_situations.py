"""Write the table of bad situations of reliability.md from the tests that show them.

    python docs/make_situations.py             write it
    python docs/make_situations.py --check     say what is wrong with it, and exit with 1 if anything is

A test that shows how a bad situation ends carries a mark: `@pytest.mark.situation(kind, what goes wrong, what
happens)`. The tests are collected, not run.
"""

import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from ftcl.files import atomic_write

_ROOT = Path(__file__).resolve().parents[1]
_PAGE = _ROOT / "docs" / "reliability.md"
_BEGIN = "<!-- situations: written by make_situations.py -->\n"
_END = "<!-- end of situations -->\n"
KINDS = {
    "input": "what the user gives: commands, search spaces, data",
    "environment": "the machine and what is installed on it",
    "storage": "files, disks, databases and object stores",
    "kill": "processes, machines and networks that go away",
}
_AT_LEAST = 40


class Situation(NamedTuple):
    """One row of the table, and the test that shows it."""

    kind: str
    what: str
    then: str
    test: str


class _Collector:
    """The part of a pytest plugin that hears of every collected test."""

    def __init__(self) -> None:
        self.found: dict[Situation, None] = {}

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        for mark in item.iter_markers("situation"):
            if mark.kwargs or len(mark.args) != 3 or not all(isinstance(arg, str) for arg in mark.args):
                raise pytest.UsageError(f"{item.nodeid}: situation takes three texts: kind, what, then")
            assert isinstance(item, pytest.Function)
            # By its code: a test of a contract is collected once for each implementation.
            code = item.function.__code__
            place = f"{Path(code.co_filename).relative_to(_ROOT)}::{code.co_qualname}"
            self.found[Situation(*mark.args, place)] = None


def collect() -> list[Situation]:
    """Return the situations of all tests, by kind and then in the order of the tests."""
    files = sorted(str(path) for path in (_ROOT / "tests").rglob("test_*.py") if _may_show(path.read_text()))
    collector, said = _Collector(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        # Deselected tests count too: they are collected before.
        code = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", f"--rootdir={_ROOT}", *files],
            plugins=[collector],
        )
    if code != pytest.ExitCode.OK:
        raise SystemExit(said.getvalue())
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(collector.found, key=lambda situation: order.get(situation.kind, len(order)))


def _may_show(text: str) -> bool:
    return "mark.situation" in text or "tests.contracts" in text


def problems(situations: Sequence[Situation]) -> Iterator[str]:
    """Say what is wrong with the marks."""
    if len(situations) < _AT_LEAST:
        yield f"{len(situations)} situations, but at least {_AT_LEAST} are to be shown"
    shown_by: dict[str, str] = {}
    for situation in situations:
        if situation.kind not in KINDS:
            yield f"{situation.test}: the kind {situation.kind!r} is none of {', '.join(KINDS)}"
        for text in (situation.what, situation.then):
            if not text.strip() or "\n" in text or text.endswith("."):
                yield f"{situation.test}: {text!r} is not one line without a full stop"
        other = shown_by.setdefault(" ".join(situation.what.casefold().split()), situation.test)
        if other != situation.test:
            yield f"{other} and {situation.test} show the same situation: {situation.what}"


def table(situations: Sequence[Situation]) -> str:
    """Return the situations as a table in Markdown."""
    lines = ["| kind | what goes wrong | what happens |", "| --- | --- | --- |"]
    lines += [f"| {s.kind} | {_cell(s.what)} | {_cell(s.then)} |" for s in situations]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    parts = text.replace("|", "\\|").split("`")
    # Outside code, a <word> would be taken for HTML.
    return "`".join(part.replace("<", "\\<") if i % 2 == 0 else part for i, part in enumerate(parts))


def _page_with(content: str) -> str:
    before, begin, rest = _PAGE.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise SystemExit(f"{_PAGE} has lost its two marks of the table: {_BEGIN.strip()}, {_END.strip()}")
    return f"{before}{_BEGIN}{content}{_END}{after}"


def main(arguments: Sequence[str]) -> int:
    situations = collect()
    page = _page_with(table(situations))
    wrong = list(problems(situations))
    if "--check" not in arguments:
        atomic_write(_PAGE, lambda file: file.write(page.encode()))
    elif _PAGE.read_text() != page:
        wrong.append("the table is not what the tests say; run: python docs/make_situations.py")
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
