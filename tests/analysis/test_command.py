"""The command: several studies, a choice of tables, another folder, formats, what it says of bad input."""

import json
from pathlib import Path

import pandas as pd
import pytest

from analysis.__main__ import main
from tests.analysis.localization import looked_at
from tests.analysis.made_up import CONT, gaining, write_study
from tests.analysis.tables.studies import write_searched


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_searched(tmp_path / "first", data="first")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_searched(tmp_path / "second", data="second")


def test_every_table_is_written_in_every_format(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(out)]) == 0
    shown = capsys.readouterr().out
    written = {path.name for path in (out / "tables").iterdir()}
    for name in ("ablation", "comparisons", "grid", "sensitivity", "pretraining", "best", "cost"):
        assert {f"{name}.{kind}" for kind in ("md", "tex", "csv")} <= written
    assert f"written: {out}/tables: ablation, comparisons" in shown
    assert "Best configurations: made_up on first" in shown
    assert (out / "ablation.md").is_file()
    long = pd.read_csv(out / "tables/cost.csv")
    assert long.loc[long["part"] == "both", "wall_s"].item() == 72


def test_some_tables_go_to_another_folder(out: Path, tmp_path: Path) -> None:
    before = sorted(out.rglob("*"))
    to = tmp_path / "elsewhere"
    assert main([str(out), "--table", "best,cost", "--format", "md", "--to", str(to)]) == 0
    assert sorted(path.name for path in (to / "tables").iterdir()) == ["best.md", "cost.md"]
    assert sorted(out.rglob("*")) == before


def test_a_folder_that_cannot_be_written_is_an_error_after_the_tables(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([str(out), "--table", "cost", "--to", str(tmp_path / "file")]) == 2
    shown = capsys.readouterr()
    assert "Cost" in shown.out
    assert shown.err.startswith("error: ") and str(tmp_path / "file") in shown.err


def test_a_table_of_earlier_records_does_not_stay(out: Path) -> None:
    (out / "tables").mkdir()
    (out / "tables/errors.md").write_text("of other records")
    (out / "tables/mine.md").write_text("mine")
    assert main([str(out), "--table", "errors,cost", "--format", "md"]) == 0
    assert sorted(path.name for path in (out / "tables").iterdir()) == ["cost.md", "mine.md"]


@pytest.mark.parametrize(
    ("column", "words"), [("proposal", "has no column proposal"), ("test/", "no numbers")]
)
def test_a_damaged_table_of_trials_is_one_clear_error(
    out: Path, column: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = pd.read_parquet(out / "trials.parquet")
    if column == "proposal":
        trials = trials.drop(columns=column)
    else:
        name = next(name for name in trials if name.startswith(column))
        trials[name] = "a"
    trials.to_parquet(out / "trials.parquet")
    assert main([str(out), "--table", "cost"]) == 2
    error = capsys.readouterr().err
    assert f"{out}/trials.parquet" in error and words in error


@pytest.mark.situation(
    "input",
    "an entry of a study's manifest is of another kind",
    "the error names the file and the entry; nothing is shown",
)
@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("winner", [1]),
        ("versions", None),
        ("git", 3),
        ("hardware", None),
        ("launches", [{}]),
        ("command", None),
        ("gate", {"metric": "score", "at_least": "a"}),
        ("space: arms", []),
        ("space: seeds", "8"),
        ("space: definition", None),
    ],
)
def test_a_manifest_of_other_kinds_is_one_clear_error(
    out: Path, entry: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((out / "manifest.json").read_text())
    *outer, last = entry.split(": ")
    content = manifest[outer[0]] if outer else manifest
    content[last] = value
    (out / "manifest.json").write_text(json.dumps(manifest))
    assert main([str(out), "--table", "cost"]) == 2
    error = capsys.readouterr().err
    assert f"{out}/manifest.json is damaged" in error


@pytest.mark.situation(
    "storage",
    "the annotations of the test videos are damaged",
    "the tables that need them say so, the others are there",
)
@pytest.mark.parametrize(
    "database", [{"v": {"duration": "a"}}, {"v": {"annotations": [{"label": "A", "segment": [1]}]}}, [], {}]
)
def test_damaged_annotations_take_no_other_table_with_them(
    database: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = looked_at.write(tmp_path / "out")
    (out / "ground_truth.json").write_text(json.dumps({"database": database}))
    assert main([str(out), "--table", "ablation,errors,video_bootstrap"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    reason = "ground_truth.json is damaged" if database != {} else "the test videos have no annotated segment"
    assert shown.count(reason) == 2
    assert (out / "tables/ablation.md").is_file()


def test_several_studies_are_set_side_by_side(
    out: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ["--table", "ablation", "--format", "md"]
    assert main([str(out), str(other), *chosen]) == 0
    assert "several studies: say where with --to DIR" in capsys.readouterr().out
    assert not (out / "tables").exists()
    assert main([str(out), str(other), *chosen, "--to", str(tmp_path / "both")]) == 0
    text = (tmp_path / "both/tables/ablation.md").read_text()
    assert "|  |  |  | first |  |  | second |  |  |" in text


def test_the_report_of_each_of_several_studies_is_its_own(
    out: Path,
    other: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("analysis.report.page.build_report", lambda study: f"<p>{study.data}</p>")
    options = ["--format", "html", "--table", "cost"]
    assert main([str(out), str(other), *options, "--to", str(tmp_path / "to")]) == 0
    shown = capsys.readouterr().out
    assert "a report is of one study: each gets its own" in shown
    assert (tmp_path / "to/2-made_up-report.html").read_text() == "<p>second</p>"
    assert main([str(out), "--format", "html"]) == 0
    assert capsys.readouterr().out == f"written: {out}/report.html\n"
    assert (out / "report.html").read_text() == "<p>first</p>"
    assert not (out / "tables").exists()


def test_bca_intervals_are_said_where_they_stand(out: Path) -> None:
    assert main([str(out), "--intervals", "bca", "--format", "md"]) == 0
    assert "95 % interval: BCa" in (out / "ablation.md").read_text()
    assert "95 % interval: BCa" in (out / "tables/comparisons.md").read_text()


def test_bca_intervals_decide_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # The paired t's interval of the differences between control and FSD+LCS is [−0.05, +1.75], BCa's
    # [+0.16, +1.55].
    gains = (0.1, -0.4, -0.5, 1.1, 1.2, 2.4, 0.8, 2.1)
    arms = ("acmnet", "cont", "+FSD", "+LCS", "FSD+LCS")
    write_study(tmp_path, {**dict.fromkeys(arms, CONT), "shuffled order": gaining(*gains)})
    shown = {}
    for kind in ("t", "bca"):
        assert main([str(tmp_path), "--intervals", kind, "--format", "csv"]) == 0
        shown[kind] = " ".join(capsys.readouterr().out.split())
    note = "of such intervals of 8 normal differences 89 % held the true mean"
    assert note in shown["bca"] and note not in shown["t"]
    assert "[−0.05, +1.7]" in shown["t"] and "[+0.2, +1.6]" in shown["bca"]
    for text in shown.values():
        assert "(95 % paired-t intervals, uncorrected), shuffled order is not shown to differ" in text


def test_a_report_says_that_it_has_no_bca_intervals(
    out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.report.page.build_report", lambda study: "<p></p>")
    words = "the report always shows paired-t intervals; bca is for the tables"
    for options in (["--format", "html"], ["--format", "html", "--table", "comparisons"]):
        assert main([str(out), *options, "--intervals", "bca"]) == 0
        assert words in capsys.readouterr().out
    assert main([str(out), "--format", "html"]) == 0
    assert words not in capsys.readouterr().out


@pytest.mark.situation(
    "input",
    "python -m analysis is given a study that still runs",
    "it says so, makes the tables that there can be, and names the reason for each missing cell",
)
def test_a_running_study_is_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = write_searched(tmp_path / "out", finished=False)
    assert main([str(out)]) == 0
    assert f"{out} is not finished: its tables show what there is so far" in " ".join(
        capsys.readouterr().out.split()
    )


@pytest.mark.situation(
    "input",
    "one of several studies given to python -m analysis is no study, or of another schema version",
    "one line names the folder and what to do; nothing is written",
)
def test_one_bad_study_of_several_is_one_clear_error(
    out: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps({**manifest, "schema_version": 1}))
    assert main([str(out), str(other), "--to", str(tmp_path / "to")]) == 2
    error = capsys.readouterr().err
    assert f"{other}/manifest.json has records of schema version 1" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "to").exists()


@pytest.mark.situation(
    "storage",
    "the epochs of a study are missing, as in a copy of only some files",
    "the tables that need no epochs are made; of the others one line says which file is missing",
)
def test_a_copy_without_epochs_gives_the_other_tables(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (out / "epochs.parquet").unlink()
    assert main([str(out)]) == 0
    shown = capsys.readouterr().out
    assert "no table sensitivity: its records cannot be read" in shown
    assert "epochs.parquet is missing" in shown
    assert (out / "tables/cost.md").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--table", "all"], "unknown table all; there are ablation, comparisons"),
        (["--format", "pdf"], "unknown format pdf; there are csv, md, tex, html"),
        (["--format", ""], "empty format; there are csv, md, tex, html"),
        (["--format", "md,,csv"], "empty format; there are csv, md, tex, html"),
        (["--table", ""], "empty table; there are ablation, comparisons"),
        (["--trace", "cost,best"], "unknown table cost,best; there are ablation, comparisons"),
    ],
)
def test_an_unknown_choice_is_an_error(
    out: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main([str(out), *options]) == 2
    assert f"error: {words}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--to", "elsewhere"], "leave out --to"),
        (["--format", "md", "--table", "cost", "--intervals", "t"], "leave out --format and --table"),
    ],
)
def test_a_trace_takes_no_options_about_files(
    out: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert main([str(out), "--trace", "cost", *options]) == 2
    shown = capsys.readouterr()
    assert words in shown.err and not shown.out


def test_the_help_puts_the_study_before_the_names_of_a_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--trace", "cost", "studies/one"])
    assert "usage: python -m analysis OUT [OUT ...] [options]" in capsys.readouterr().err
