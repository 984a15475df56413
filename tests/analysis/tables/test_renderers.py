import io
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from rich.console import Console

from analysis.tables import html, latex, markdown, terminal
from analysis.tables.table import Cell, Column, Row, Table

NASTY = "<script>alert('1')</script> & |x| *y* `z` [l](u) \\ 100 % a_b $c$ #d {e} ~ ^"
TABLE = Table(
    name="a_b",
    title="Title <b> & 100 %",
    columns=(
        Column("arm", align="left"),
        Column("on", align="center"),
        Column("0.1", group="mAP"),
        Column("0.2", group="mAP"),
    ),
    rows=(
        Row((Cell("base"), Cell("✓"), Cell("1.0"), Cell("−2.0"))),
        Row((Cell("new"), Cell(""), Cell("3.0", 3.0, (4, 5), best=True, significant="better"), Cell("1.0"))),
        Row(
            (Cell(NASTY), Cell(""), Cell("", missing="seed <7> failed"), Cell("2.0", missing="1 of 2")),
            "part",
        ),
        Row((Cell("old"), Cell(""), Cell("0.1", significant="worse"), Cell("", missing="1 of 2")), "part"),
    ),
    long=pd.DataFrame(),
    notes=("A note with a | in it.",),
)


class Reader(HTMLParser):
    """Collects tags with their attributes, and checks that they are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def shown(table: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    terminal.show(table, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_markdown() -> None:
    lines = markdown.render(TABLE).splitlines()
    assert lines[0] == "### Title \\<b> & 100 %"
    assert lines[2:6] == [
        "|  |  | mAP |  |",
        "| --- | :---: | ---: | ---: |",
        "| **arm** | **on** | **0.1** | **0.2** |",
        "| base | ✓ | 1.0 | −2.0 |",
    ]
    assert lines[6] == "| new |  | **3.0**\\* | 1.0 |"
    assert lines[7] == "| *part* |  |  |  |"
    assert lines[8].endswith("|  | – <sup>a</sup> | 2.0 <sup>b</sup> |")
    assert lines[9] == "| old |  | 0.1† | – <sup>b</sup> |"
    assert "- <sup>a</sup> seed \\<7> failed" in lines
    assert "- A note with a \\| in it." in lines
    # A cell's own bar must not make a column: four cells have five bars.
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 5 for line in lines if line.startswith("|"))


def test_html_is_whole_escaped_and_says_what_is_missing() -> None:
    reader = Reader()
    reader.feed(html.render(TABLE))
    reader.close()
    assert reader.open == []
    assert "script" not in {tag for tag, _ in reader.tags}
    assert NASTY in reader.text
    cells = [attributes for tag, attributes in reader.tags if tag == "td" and "class" in attributes]
    assert {"class": "right best better", "title": "trials 4, 5"} in cells
    assert {"class": "right missing", "title": "seed <7> failed"} in cells
    assert {"class": "right worse"} in cells
    assert ("th", {"colspan": "2", "scope": "colgroup", "class": "center"}) in reader.tags
    assert ("th", {"colspan": "4", "scope": "rowgroup"}) in reader.tags
    assert "3.0*" in reader.text


def test_html_names_no_trials_by_the_thousand() -> None:
    cell = Cell("1", trials=tuple(range(100_000)))
    table = Table("t", "T", (Column("a"), Column("b")), (Row((Cell("r"), cell)),), pd.DataFrame())
    text = html.render(table)
    assert "100000 trials" in text
    assert len(text) < 1000


def test_latex() -> None:
    text = latex.render(TABLE)
    assert r"\begin{tabular}{@{}lcrr@{}}" in text
    assert r" &  & \multicolumn{2}{c}{mAP} \\" in text
    assert r"\cmidrule(lr){3-4}" in text
    assert r"new &  & \textbf{\boldmath 3.0}$^{*}$ & 1.0 \\" in text
    assert r"base & $\checkmark$ & 1.0 & $-$2.0 \\" in text
    assert r"old &  & 0.1$^{\dagger}$ & --\textsuperscript{b} \\" in text
    assert r"\multicolumn{4}{@{}l}{\emph{part}} \\" in text
    assert r"\caption{Title $<$b$>$ \& 100 \%}" in text
    assert r"\label{tab:a-b}" in text
    assert r"a\_b \$c\$ \#d \{e\} \textasciitilde{} \textasciicircum{}" in text
    assert text.count("{") - text.count(r"\{") == text.count("}") - text.count(r"\}")
    rows = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert all(len(re.findall(r"(?<!\\)&", row)) == 3 for row in rows)


@pytest.mark.parametrize(
    ("sign", "printed"),
    [
        ("γ", r"$\gamma$"),
        ("λ", r"$\lambda$"),
        ("Λ", r"$\Lambda$"),
        ("Γ", r"$\Gamma$"),
        ("Α", "A"),
        ("é", "é"),
        ("☃", "{[}snowman]"),
        ("*", "{*}"),
        ("ﬁ", "fi"),
        ("\n", " "),
        ("\x07", ""),
    ],
)
def test_latex_has_something_for_every_sign(sign: str, printed: str) -> None:
    assert latex.escape(sign) == printed


def test_latex_opens_and_closes_straight_quotes() -> None:
    text = 'the "best" of ("a b"), "c"/"d" and 5" of “both”'
    assert latex.escape(text) == "the ``best'' of (``a b''), ``c''/``d'' and 5'' of ``both''"
    assert latex.escape('"') == "``"


def test_a_wide_terminal_shows_a_table_in_one_part() -> None:
    lines = shown(TABLE, 120)
    assert "base" in lines[5]
    assert [line for line in lines if line.startswith("new")] == [line for line in lines if "3.0*" in line]
    assert "[a] seed <7> failed" in lines


def test_a_narrow_terminal_shows_every_column_in_parts_below_each_other() -> None:
    narrow = Table(
        "t",
        "T",
        (Column("arm", align="left"), *(Column(f"column {number}", group="all") for number in range(9))),
        (
            Row(
                (Cell("row"), *(Cell(f"{number}.5") for number in range(9))),
                "a section that is longer than it all",
            ),
        ),
        pd.DataFrame(),
    )
    lines = shown(narrow, 40)
    assert max(map(len, lines)) <= 40
    text = "\n".join(lines)
    assert all(f"column {number}" in text and f"{number}.5" in text for number in range(9))
    assert sum(line.startswith("row ") for line in lines) == 3
    assert "longer than it all" in " ".join(lines)


def test_a_legend_stands_only_for_marks_that_there_are() -> None:
    plain = Table("t", "T", (Column("a"),), (Row((Cell("1"),)),), pd.DataFrame())
    for text in (
        markdown.render(plain),
        html.render(plain),
        latex.render(plain),
        "\n".join(shown(plain, 80)),
    ):
        assert "best" not in text.replace("[tbp]", "")
        assert "better" not in text


def test_a_row_must_have_all_cells() -> None:
    with pytest.raises(ValueError, match="t: 1 cells for 2 columns"):
        Table("t", "T", (Column("a"), Column("b")), (Row((Cell("1"),)),), pd.DataFrame())
