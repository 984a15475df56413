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
LAYOUTS = {
    "one column": "\\documentclass[10pt,a4paper]{article}\n",
    "two columns": "\\documentclass[10pt,twocolumn,letterpaper]{article}\n"
    "\\usepackage[textwidth=6.875in,textheight=8.875in,columnsep=0.3125in]{geometry}\n",  # CVPR's
}
# Tells by how much each tabular shrinks.
MEASURED = r"""
\let\shrunk\resizebox
\renewcommand{\resizebox}[3]{\sbox0{#3}\typeout{TABULAR \the\wd0 IN \the\linewidth}\shrunk{#1}{#2}{#3}}
"""
BASE_PT = 8.0  # \footnotesize of a paper in 10 pt


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


def set_in_type(pdflatex: str, folder: Path, tables: Sequence[Path]) -> list[str]:
    """Set tables in papers of one and of two columns and return LaTeX's logs; fails without a PDF."""
    packages = "\n".join(rf"\usepackage{{{name}}}" for name in PREAMBLE)
    inputs = "\n\\clearpage\n".join(rf"\input{{{path}}}" for path in tables)
    logs = []
    for name, layout in LAYOUTS.items():
        paper = folder / f"{name.replace(' ', '_')}.tex"
        paper.write_text(f"{layout}{packages}{MEASURED}\\begin{{document}}\n{inputs}\n\\end{{document}}\n")
        command = [pdflatex, "-interaction=nonstopmode", "-halt-on-error", paper.name]
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=120)
        logs.append(paper.with_suffix(".log").read_text(encoding="latin-1"))
        faults = [line for line in logs[-1].splitlines() if line.startswith("!")]
        assert done.returncode == 0, "\n".join((name, *faults))
        assert paper.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
    return logs


def assert_it_stands(log: str) -> None:
    """No box is over 1 pt too wide, no type smaller than about 6 pt."""
    assert not [pt for pt in re.findall(r"Overfull \\hbox \(([\d.]+)pt", log) if float(pt) > 1]
    widths = re.findall(r"TABULAR ([\d.]+)pt\s*IN ([\d.]+)pt", log)
    assert widths
    assert min(BASE_PT * min(1.0, float(line) / float(wide)) for wide, line in widths) > 5.8


def test_the_tables_of_studies_stand_in_papers(pdflatex: str, tmp_path: Path) -> None:
    for number in (1, 2):
        write_searched(tmp_path / f"study{number}", data=f"set_{number}")
    assert main([str(tmp_path / "study1"), "--format", "tex"]) == 0
    one = sorted((tmp_path / "study1/tables").glob("*.tex"))
    assert len(one) >= 6
    both = [str(tmp_path / f"study{number}") for number in (1, 2)]
    assert main([*both, "--format", "tex", "--to", str(tmp_path / "both"), "--table", "ablation,best"]) == 0
    for log in set_in_type(pdflatex, tmp_path, [*one, *sorted((tmp_path / "both/tables").glob("*.tex"))]):
        assert_it_stands(log)
        assert "LaTeX Warning: Float too large" not in log


def test_wide_tables_are_stacked_before_their_type_is_too_small(pdflatex: str, tmp_path: Path) -> None:
    heads = [
        Column("arm", align="left"),
        *(Column(f"double detection {n}", f"part {n // 6}") for n in range(18)),
    ]
    cells = (Cell("mean similarity"), *(Cell("−44.1 ± 12.3", significant="better") for _ in range(18)))
    rows = (Row(cells, section="a head of its own that is longer than all of the columns " * 5),)
    (tmp_path / "wide.tex").write_text(render(Table("wide", "Wide", tuple(heads), rows, pd.DataFrame())))
    for log in set_in_type(pdflatex, tmp_path, [tmp_path / "wide.tex"]):
        assert_it_stands(log)
        assert log.count("TABULAR") > 1


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
