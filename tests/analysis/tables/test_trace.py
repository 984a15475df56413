from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.load import Study, load_study
from analysis.tables.ablation_paper import paper_table
from analysis.tables.comparisons import comparisons_table
from analysis.tables.cost import cost_table
from analysis.tables.grid import grid_table
from analysis.tables.pretraining import pretraining_table
from analysis.tables.table import NothingToShow, Table
from analysis.tables.trace import cell_lines, find_cells, ranges, trials_table
from tests.analysis.tables.studies import HEADLINE, write_searched


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_searched(tmp_path_factory.mktemp("traced") / "out")


def test_a_cell_leads_to_the_trials_that_give_its_value(out: Path) -> None:
    study = load_study(out)
    (found,) = find_cells(paper_table(study), [study], "both", HEADLINE)
    trials = trials_table(found)
    assert trials.long["arm"].unique().tolist() == ["both"]
    assert trials.long[f"test/{HEADLINE}"].mean() == pytest.approx(found.cell.value)
    assert "= 43.5 ± 2.4, from 8 trials of" in trials.title


def test_a_difference_leads_to_the_trials_of_both_arms(out: Path) -> None:
    study = load_study(out)
    for table, row in ((comparisons_table(study), "+FSD"), (grid_table(study), "1")):
        for column in (each for each in table.columns[1:] if each.group != "within the grid"):
            cells = find_cells(table, [study], row, column.name)
            arms = set(trials_table(cells[0]).long["arm"])
            of_arm = column.name in ("mean ± sd", "seeds")
            assert ("cont" in arms) != of_arm, column
            assert len(arms) == (1 if of_arm else 2), column
    (found,) = find_cells(comparisons_table(study), [study], "+FSD", "difference")
    values = trials_table(found).long.pivot(index="seed", columns="arm", values=f"test/{HEADLINE}")
    assert len(values) == 7  # of +FSD one seed has failed
    assert (values["+FSD"] - values["cont"]).mean() == pytest.approx(found.cell.value)


@pytest.mark.parametrize("name", ["0.1:0.3", "average mAP@tIoU 0.1:0.3", "mAP@0.1:0.3"])
def test_a_column_answers_to_several_names(out: Path, name: str) -> None:
    study = load_study(out)
    table = paper_table(study)
    assert [found.column for found in find_cells(table, [study], None, name)] == [
        "average mAP@tIoU 0.1:0.3"
    ] * len(table.rows)


def test_every_cell_of_a_table_can_be_listed(out: Path) -> None:
    study = load_study(out)
    table = paper_table(study)
    cells = find_cells(table, [study])
    assert len(cells) == len(table.rows) * (len(table.columns) - 1)
    (of_fsd,) = (each for each in cells if (each.row, each.column) == ("+FSD", "seeds"))
    assert len(of_fsd.cell.trials) == 7
    told = [each for each in cells if each.cell.text or each.cell.missing]  # all but ticks that are not there
    lines = list(cell_lines(cells))
    assert len(lines) == len(told)
    trials = ranges(of_fsd.cell.trials)
    assert f"+FSD · seeds = 7 of 8: trials {trials} ({of_fsd.cell.missing})" in lines


def test_cells_of_several_studies_lead_to_their_own(out: Path, tmp_path: Path) -> None:
    first = load_study(out)
    second = load_study(write_searched(tmp_path / "second", data="second"))
    found = find_cells(paper_table(first, second), [first, second], "both", HEADLINE)
    assert [str(each.study.store) for each in found] == [str(out), str(tmp_path / "second")]
    first_line, second_line = cell_lines(found)
    assert first_line.endswith(f" of {out}") and second_line.endswith(f" of {tmp_path / 'second'}")


def test_a_cell_without_trials_says_so(out: Path) -> None:
    study = load_study(out)
    (found,) = find_cells(paper_table(study), [study], "both", "FSD")
    with pytest.raises(NothingToShow, match="both · FSD rests on no trials"):
        trials_table(found)


@pytest.mark.parametrize(
    ("make", "row", "column"),
    [
        (cost_table, "saved by sharing", None),
        (cost_table, "one more ablation seed", None),
        (cost_table, "both", "share (%)"),
        (pretraining_table, None, "after cont mAP@0.1:0.3, test"),
    ],
)
def test_no_number_is_without_trials(
    out: Path, make: Callable[[Study], Table], row: str | None, column: str | None
) -> None:
    study = load_study(out)
    values = [found.cell for found in find_cells(make(study), [study], row, column) if found.cell.text]
    assert values and all(cell.trials for cell in values)


def test_the_price_of_a_seed_is_that_of_its_trials(out: Path) -> None:
    study = load_study(out)
    (found,) = find_cells(cost_table(study), [study], "one more ablation seed", "wall (min)")
    trials = trials_table(found).long
    assert trials["wall_s"].sum() / trials["seed"].nunique() == pytest.approx(found.cell.value)


def test_ranges() -> None:
    assert ranges([7, 1, 4, 5, 6]) == "1, 4–7"
    assert ranges([]) == ""


def test_the_command_traces(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(out), "--trace", "ablation", "both", HEADLINE]) == 0
    shown = capsys.readouterr().out
    assert shown.count("complete") == 8
    assert not (out / "tables").exists()
    assert main([str(out), "--trace", "ablation", "both"]) == 0
    shown = capsys.readouterr().out
    assert "both · average mAP@tIoU 0.1:0.3 = 43.5 ± 2.4: trials" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.situation(
    "input",
    "python -m analysis is asked to trace a table, row or column that is not there",
    "one line says so and names those that there are",
)
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["abl"], "unknown table abl; there are ablation, comparisons"),
        (["ablation", "FSD"], "table ablation has no row FSD; it has cont, acmnet"),
        (["ablation", "both", "x"], "table ablation has no column x; it has FSD, LCS, seeds, mAP@tIoU 0.1"),
        (["a", "b", "c", "d"], "--trace takes TABLE, TABLE ROW or TABLE ROW COLUMN"),
    ],
)
def test_what_is_not_there_cannot_be_traced(
    out: Path, capsys: pytest.CaptureFixture[str], asked: list[str], words: str
) -> None:
    assert main([str(out), "--trace", *asked]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {words}")
    assert error.count("\n") == 1
