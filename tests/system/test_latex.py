"""The LaTeX tables, set by a real LaTeX: Debian's packages, installed if they are missing."""

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from analysis.tables.latex import PREAMBLE, render
from analysis.tables.table import Cell, Column, Row, Table
from tests.analysis import made_up
from tests.analysis.tables.studies import write_searched

PACKAGES = ("texlive-latex-base", "texlive-latex-recommended")


@pytest.fixture(scope="module")
def pdflatex() -> str:
    """Return the program."""
    if shutil.which("pdflatex") is None or not _has("booktabs.sty"):
        _apt_get("update")
        _apt_get("install", "--yes", "--no-install-recommends", *PACKAGES)
    program = shutil.which("pdflatex")
    assert program is not None, f"{PACKAGES} brought no pdflatex"
    return program


def _has(file: str) -> bool:
    return subprocess.run(["kpsewhich", file], capture_output=True, timeout=60).returncode == 0


def _apt_get(*arguments: str) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command: Sequence[str] = ["apt-get", "--quiet", *arguments]
    subprocess.run(command, env=environment, check=True, timeout=600, stdin=subprocess.DEVNULL)


def set_in_type(pdflatex: str, folder: Path, tables: Sequence[Path]) -> str:
    """Set tables in a page of A4 and return LaTeX's log; fails unless a PDF comes of it."""
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PREAMBLE)
    inputs = "\n\\clearpage\n".join(rf"\input{{{path}}}" for path in tables)
    (folder / "paper.tex").write_text(
        "\\documentclass{article}\n\\usepackage[a4paper,margin=2cm]{geometry}\n"
        f"{packages}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
    command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
    log = (folder / "paper.log").read_text(encoding="latin-1")
    assert done.returncode == 0, "\n".join(line for line in log.splitlines() if line.startswith("!"))
    assert (folder / "paper.pdf").read_bytes().startswith(b"%PDF")
    return log


def test_the_tables_of_studies_compile_and_fit_the_page(pdflatex: str, tmp_path: Path) -> None:
    for number in (1, 2):
        write_searched(tmp_path / f"study{number}", data=f"set_{number}")
    assert main([str(tmp_path / "study1"), "--format", "tex"]) == 0
    one = sorted((tmp_path / "study1/tables").glob("*.tex"))
    assert len(one) >= 6
    both = [str(tmp_path / f"study{number}") for number in (1, 2)]
    assert main([*both, "--format", "tex", "--to", str(tmp_path / "both"), "--table", "ablation,best"]) == 0
    log = set_in_type(pdflatex, tmp_path, [*one, *sorted((tmp_path / "both/tables").glob("*.tex"))])
    assert not re.findall(r"Overfull \\hbox \((?:[5-9]|\d\d)", log)
    assert "LaTeX Warning: Float too large" not in log


def test_failures_and_gaps_are_set_in_type(pdflatex: str, tmp_path: Path) -> None:
    values: made_up.Values = {
        "cont": [1.0, 2.0, 3.0],
        "+FSD": [2.0, r"C:\path\n {100%} #1 $x_1^2$ & ~ “quoted” \end{table}", "running"],
    }
    made_up.write_study(tmp_path / "out", values)
    assert main([str(tmp_path / "out"), "--format", "tex"]) == 0
    set_in_type(pdflatex, tmp_path, sorted((tmp_path / "out/tables").glob("*.tex")))


def test_every_sign_that_a_cell_may_hold_compiles(pdflatex: str, tmp_path: Path) -> None:
    signs = [chr(code) for code in (*range(0x20, 0x3000), 0x4E2D, 0x1F600) if chr(code).isprintable()]
    rows = tuple(
        Row((Cell("".join(signs[start : start + 8])), Cell("1", best=True, missing=signs[start])))
        for start in range(0, len(signs), 8)
    )
    # One page holds no float of a thousand rows.
    for part in range(0, len(rows), 40):
        table = Table(
            "a_b", "γ & 100 %", (Column("x"), Column("y", group="z")), rows[part : part + 40], pd.DataFrame()
        )
        (tmp_path / f"signs{part:05}.tex").write_text(render(table))
    set_in_type(pdflatex, tmp_path, sorted(tmp_path.glob("signs*.tex")))
