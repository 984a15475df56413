"""The floors of the house, also where import-linter cannot look, and the packages of an installation."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ("ftcl", "study", "analysis")
OPTUNA_FILES = {
    "analysis/search/importance.py",
    *(f"study/{name}.py" for name in ("search", "ledger", "ledger_database", "ledger_storage")),
}


def imported_modules(path: Path) -> Iterator[str]:
    """Full names of what a file imports, at its head or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: write imports in full"
            assert node.module is not None
            yield node.module


def imported_packages(path: Path) -> set[str]:
    return {module.partition(".")[0] for module in imported_modules(path)}


def files(*folders: str) -> dict[str, Path]:
    return {
        str(path.relative_to(ROOT)): path
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    }


def test_command_calls_only_the_floors_and_prints():
    assert imported_packages(ROOT / "run_study.py") - sys.stdlib_module_names <= {"study", "analysis", "rich"}


def test_command_has_no_logic():
    """It parses, calls and prints: no classes, loops that wait, arithmetic or files of its own."""
    nodes = list(ast.walk(ast.parse((ROOT / "run_study.py").read_text())))
    logic = (
        ast.ClassDef,
        ast.While,
        ast.With,
        ast.AugAssign,
        ast.Lambda,
        ast.Add,
        ast.Sub,
        ast.Mult,
        ast.Div,
    )
    assert [type(node).__name__ for node in nodes if isinstance(node, logic)] == []
    calls = {node.func.id for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert not calls & {"open", "sum", "min", "max", "sorted", "eval", "exec"}


def test_ray_stays_in_study_tune():
    importers = {name for name, path in files(*FLOORS).items() if "ray" in imported_packages(path)}
    assert importers
    assert all(name.startswith("study/tune/") for name in importers)


def test_optuna_stays_in_search_ledger_and_importance():
    importers = {name for name, path in files(*FLOORS).items() if "optuna" in imported_packages(path)}
    assert importers == OPTUNA_FILES


def test_learning_needs_no_study_tools():
    for name, path in files("ftcl").items():
        assert not imported_packages(path) & {"ray", "optuna", "pandas", "study", "analysis"}, name


def test_analysis_takes_only_records_and_scores_from_below():
    for name, path in files("analysis").items():
        below = {m for m in imported_modules(path) if m.partition(".")[0] in ("study", "ftcl")}
        assert below <= {"study.records", "ftcl.evaluation"}, name


@pytest.mark.parametrize("module", ["ftcl", "ftcl.recipes", "ftcl.data"])
def test_light_modules_import_without_torch(module: str):
    code = f"import sys, {module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_an_installation_has_every_package():
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {
        str(path.parent.relative_to(ROOT)).replace("/", ".")
        for folder in (*FLOORS, "search_spaces")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert listed == found
