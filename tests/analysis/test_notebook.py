"""The notebooks as they lie in git, and what they are written with; tests/system runs them."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from analysis import notebook
from analysis.plots import style
from analysis.tables.table import Cell, Column, NothingToShow, Row, Table
from study.records import RecordsError
from tests.analysis import made_up

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "analysis/notebooks").glob("*.ipynb"))


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is displayed, as its source."""
    found: list[Any] = []
    monkeypatch.setattr(notebook, "display", lambda thing: found.append(thing.data))
    return found


def cells(path: Path) -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    return content


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["ablation", "hyperparameters", "localization"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_results_lie_in_git(path: Path) -> None:
    code = [cell for cell in cells(path) if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert all(cell["metadata"] == {} for cell in cells(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_needs_the_analysis_alone_and_explains_itself(path: Path) -> None:
    imported = set()
    for cell in cells(path):
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                if isinstance(node, ast.ImportFrom):
                    imported.add(str(node.module).partition(".")[0])
                elif isinstance(node, ast.Import):
                    imported |= {alias.name.partition(".")[0] for alias in node.names}
    assert imported - sys.stdlib_module_names == {"analysis"}
    prose = "".join("".join(cell["source"]) for cell in cells(path) if cell["cell_type"] == "markdown")
    assert prose.startswith("# ")
    assert len(prose) > 2000


def test_tables_and_charts_are_shown_with_their_titles(shown: list[Any]) -> None:
    table = Table("t", "A <table>", (Column("arm"),), (Row((Cell("+FSD"),)),), pd.DataFrame())
    drawing, _ = style.figure()
    chart = style.Chart("c", "A chart", "What it shows (n = 8).", (drawing, drawing))
    notebook.show(lambda: [table, chart])
    assert "<h4>A &lt;table&gt;</h4>" in shown[0] and "+FSD" in shown[0]
    assert shown[1].count('<img alt="A chart"') == 2
    assert "What it shows (n = 8)." in shown[1]


@pytest.mark.parametrize("error", [NothingToShow, RecordsError])
def test_what_cannot_be_shown_is_told(error: type[Exception], shown: list[Any]) -> None:
    def part(study: str) -> Table:
        raise error(f"no seed of {study} is complete")

    notebook.show(part, "this study")
    assert shown == ["*Nothing to show here: no seed of this study is complete.*"]


def test_sentences_are_shown_as_a_list(shown: list[Any]) -> None:
    notebook.show_list(["Too few seeds.", "a < b"])
    assert shown == ["- Too few seeds.\n- a &lt; b"]


def test_a_study_that_is_not_there_is_told_once(shown: list[Any], tmp_path: Path) -> None:
    assert notebook.open_shipped(str(tmp_path / "nowhere"), "temperature") is None
    assert len(shown) == 1
    assert "nowhere" in shown[0] and "`python run_study.py --space temperature` makes it" in shown[0]
    notebook.show(pytest.fail, None)
    assert len(shown) == 1


def test_a_relative_path_is_looked_for_here_and_then_in_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in ("here", "checkout"):
        made_up.write_study(tmp_path / root / "studies/one", {"cont": [1.0]}, finished=root == "here")
    made_up.write_study(tmp_path / "checkout/studies/two", {"cont": [1.0]})
    monkeypatch.setattr(notebook, "_ROOT", tmp_path / "checkout")
    monkeypatch.chdir(tmp_path / "here")
    assert notebook.open_study("studies/one").finished
    assert notebook.open_study("studies/two").store.location.startswith(str(tmp_path / "checkout"))
    assert notebook.open_study(str(tmp_path / "here/studies/one")).finished
    with pytest.raises(RecordsError, match="studies/three is not a folder"):
        notebook.open_study("studies/three")
