"""Files that hold no search space, and how the ones that do are found."""

from pathlib import Path

import pytest

from study.spec import SpecError, list_spaces, load_space
from tests.study.spaces import GOOD, Write, error_of


@pytest.mark.situation(
    "input",
    "the search space is not YAML, would run code, or contains itself",
    "nothing starts and no code runs; the message has the line",
)
@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", ":1: must be a mapping"),
        ("- 1\n", ":1: must be a mapping"),
        ("title: a\nrecipe: [\n", ":3: not YAML"),
        ("title: a\n\tdata: b\n", ":2: not YAML"),
        ("title: a\ndata: \x07\n", ":2: not YAML: forbidden character"),
        ("title: a\n---\ntitle: b\n", ":2: not YAML"),
        ("title: a\ndata: !!python/object/apply:os.getcwd []\n", ":2: data: the tag"),
        ("title: a\ndata: !!python/name:os.getcwd x\n", ":2: not YAML"),
        ("title: a\nfixed: &a\n  x: *a\n", ": fixed > x: an alias (*) that contains itself"),
        ("title: " + "[" * 5000, ":1: nested too deeply"),
        ("a: &a [" + "1," * 50 + "]\nb: &b [" + "*a," * 50 + "]\nc: [" + "*b," * 50 + "]\n",
         "more than 10000 values"),
        ("title: a\nname: b\n", ":2: name: a space is named by its file"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_space_says_why(write_space: Write, text: str, wrong: str) -> None:
    path = write_space(text=text)
    message = error_of(path)
    assert message.startswith(f"{path}:")
    assert wrong in message


@pytest.mark.situation(
    "input", "the search space is not UTF-8 text", "nothing starts; the message has the line"
)
def test_a_file_that_is_not_text_says_where(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"title: a\ndata: \xff\n")
    assert error_of(path) == f"{path}:2: not UTF-8 text; save the file as UTF-8"


@pytest.mark.situation("input", "the file given as search space is larger than 1 MB", "it is refused unread")
def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"#" * 1_000_001)
    assert "at most 1000000" in error_of(path)


def test_an_alias_may_repeat_a_value(write_space: Write) -> None:
    space = load_space(str(write_space(("  seeds: 2", "  seeds: &n 2"), ("  batch: 2", "  batch: *n"))))
    assert (space.search.seeds, space.search.batch) == (2, 2)


def test_an_unknown_space_names_the_nearest(write_space: Write) -> None:
    with pytest.raises(SpecError, match='unknown search space "fsd_lsc"; did you mean fsd_lcs'):
        load_space("fsd_lsc")
    path = write_space()
    with pytest.raises(SpecError, match=r"nime\.yaml: no such file; did you mean mine\.yaml"):
        load_space(str(path.with_name("nime.yaml")))


@pytest.mark.situation(
    "input",
    "one of the shipped search spaces is invalid",
    "--list shows it with its problem, and the others as always",
)
def test_an_invalid_file_is_listed_with_its_problem(
    write_space: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = write_space(("  trials: 6", "  trials: 0"))
    (bad.parent / "good.yaml").write_text(GOOD)
    monkeypatch.setattr("study.spec.resources.files", lambda package: bad.parent)
    good, invalid = list_spaces()
    assert (good.name, good.title, good.problem) == ("good", "A space for tests", None)
    assert invalid.name == "mine"
    assert invalid.problem is not None and "mine.yaml:8: search > trials" in invalid.problem
