"""README and docs against the code: commands, options, columns, keys."""

import re
import runpy
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import analysis.__main__
import analysis.tensorboard
import ftcl.__main__
import ftcl.evaluation.__main__
import run_study
from analysis.ablation import COLUMNS
from analysis.tables.contents import TABLES
from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure
from study.records import EPOCHS, FAILURES, TRIALS, write_tables
from study.spec import Space, list_spaces, load_space
from study.store import open_store

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAINS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "run_study.py": run_study.main,
    "-m ftcl": ftcl.__main__.main,
    "-m ftcl.evaluation": ftcl.evaluation.__main__.main,
    "-m analysis": analysis.__main__.main,
    "-m analysis.tensorboard": analysis.tensorboard.main,
}


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", page.read_text(), flags=re.DOTALL | re.MULTILINE)


def commands(first_word: str) -> Iterator[str]:
    """Lines of code blocks, and code spans, that begin with a word."""
    for page in PAGES:
        spans = re.findall(r"`([^`\n]+)`", page.read_text())
        lines = [line for block in blocks(page) for line in block.splitlines()]
        yield from (text for text in lines + spans if text.startswith(f"{first_word} "))


PYTHON_COMMANDS = sorted(set(commands("python")))
MAKE_COMMANDS = sorted(set(commands("make")))


@pytest.mark.parametrize("command", PYTHON_COMMANDS)
def test_python_commands_have_the_options_that_are_shown(command: str, capsys: pytest.CaptureFixture[str]):
    words = shlex.split(command, comments=True)[1:]
    if words[0].startswith("docs/"):
        assert (ROOT / words[0]).is_file()
        return
    count = 2 if words[0] == "-m" else 1
    program, arguments = " ".join(words[:count]), words[count:]
    first_option = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    with pytest.raises(SystemExit) as ended:
        MAINS[program]([*arguments[:first_option], "--help"])
    assert ended.value.code == 0
    shown = set(re.findall(r"--[\w-]+", capsys.readouterr().out))
    assert {word for word in arguments if word.startswith("--")} <= shown


def test_docs_list_the_tables_of_the_analysis() -> None:
    section = text_of("docs/analysis.md").split("## Tables")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE) == list(TABLES)


def test_docs_list_the_notebooks() -> None:
    named = set(re.findall(r"`(\w+\.ipynb)`", text_of("docs/analysis.md")))
    assert named == {path.name for path in (ROOT / "analysis/notebooks").glob("*.ipynb")}


def test_docs_list_the_shipped_spaces() -> None:
    listed = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", text_of("docs/search_spaces.md"), flags=re.MULTILINE)
    assert sorted(listed) == [(space.name, load_space(space.name).recipe) for space in list_spaces()]


def test_readme_shows_a_call_of_every_command():
    assert all(
        any(command.startswith(f"python {program} ") for command in PYTHON_COMMANDS) for program in MAINS
    )


@pytest.mark.parametrize("command", PYTHON_COMMANDS)
def test_parameters_that_are_set_exist(command: str):
    words = shlex.split(command, comments=True)
    settings = [words[i + 1].split("=", 1) for i, word in enumerate(words) if word == "--set"]
    configure(RECIPES["ftcl"], "watch", {name: value for name, value in settings})


@pytest.mark.parametrize("command", MAKE_COMMANDS)
def test_make_targets_exist(command: str):
    makefile = text_of("Makefile")
    target = shlex.split(command, comments=True)[1]
    variables = re.findall(r" (\w+)=", command)
    assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE)
    assert all(re.search(rf"^{name} \?=", makefile, flags=re.MULTILINE) for name in variables)


def test_links_between_pages_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_options_are_those_of_the_code():
    table = runpy.run_path(str(ROOT / "docs" / "make_options.py"))["options_table"]()
    assert table in text_of("docs/methods.md"), "run: python docs/make_options.py"


def test_columns_of_the_records_are_explained(tmp_path: Path):
    write_tables(open_store(tmp_path), [])
    explained = set(re.findall(r"`([\w/]+)`", text_of("docs/results.md")))
    written = {
        name for table in (TRIALS, EPOCHS, FAILURES) for name in pq.read_schema(tmp_path / table).names
    }
    assert {*written, *COLUMNS} <= explained


def test_example_space_is_valid_and_uses_every_key(tmp_path: Path):
    (example,) = blocks(ROOT / "docs" / "search_spaces.md")
    path = tmp_path / "example.yaml"
    path.write_text(example)
    load_space(str(path))
    used = set(re.findall(r"(\w+):(?=[\s])", re.sub(r"#.*", "", example)))
    assert schema_keys(Space.model_json_schema()) - {"name"} <= used | {"name"}


def schema_keys(schema: Mapping[str, Any]) -> set[str]:
    parts = [schema, *schema.get("$defs", {}).values()]
    return {key for part in parts for key in part.get("properties", {})}
