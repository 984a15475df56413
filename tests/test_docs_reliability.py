"""The page on reliability against the code and the tests that it speaks of."""

import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from study.failures import DEFAULT_POLICIES, Policy
from study.spec import Checkpoints

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "docs" / "make_situations.py"
PAGE = (ROOT / "docs" / "reliability.md").read_text()


@pytest.fixture(scope="module")
def script() -> Any:
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


def test_table_is_what_the_tests_say() -> None:
    """At least 40 situations, all different, collected without Ray; in a process of its own."""
    done = subprocess.run([sys.executable, str(SCRIPT), "--check"], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "weather"}, "the kind 'weather' is none of input, environment, storage, kill"),
        ({"what": "Situation  3"}, "tests/b.py::test_3 and tests/a.py::test_a show the same situation"),
        ({"then": ""}, "'' is not one line without a full stop"),
        ({"then": "it ends."}, "'it ends.' is not one line without a full stop"),
        ({"what": "two\nlines"}, "is not one line"),
    ],
)
def test_wrong_marks_are_named(script: Any, change: dict[str, str], words: str) -> None:
    good = [script.Situation("kill", f"situation {n}", "it ends", f"tests/b.py::test_{n}") for n in range(40)]
    assert list(script.problems(good)) == []
    wrong = script.Situation("kill", "another", "it ends", "tests/a.py::test_a")._replace(**change)
    (problem,) = script.problems([*good, wrong])
    assert words in problem


def test_too_few_situations_are_a_problem(script: Any) -> None:
    few = [script.Situation("kill", f"situation {n}", "it ends", f"tests/b.py::test_{n}") for n in range(39)]
    assert list(script.problems(few)) == ["39 situations, but at least 40 are to be shown"]


def test_table_shows_texts_as_they_are(script: Any) -> None:
    row = script.Situation("input", "a|b in resources.<stage>", "see `crashes/<trial>.txt`", "tests/a.py::a")
    assert script.table([row]).splitlines()[-1] == (
        r"| input | a\|b in resources.\<stage> | see `crashes/<trial>.txt` |"
    )


def test_defaults_are_those_of_the_code() -> None:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE)
    shown = yaml.safe_load(block)
    assert {kind: Policy(**policy) for kind, policy in shown["failures"].items()} == DEFAULT_POLICIES
    assert shown["checkpoints"] == Checkpoints().model_dump()
