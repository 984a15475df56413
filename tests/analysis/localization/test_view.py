"""What is looked at, and what the records say of it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from analysis.load import load_study
from analysis.localization.alignment import TABLES, alignment
from analysis.localization.errors import errors_table, read_errors
from analysis.localization.timeline import timeline
from analysis.localization.view import open_views, shown_arms
from analysis.tables.table import NothingToShow
from ftcl.dp import fsd, lcs
from study.records import RecordsError, details_name, open_store, predictions_name, write_predictions
from tests.analysis import made_up
from tests.analysis.localization import looked_at


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return looked_at.write(tmp_path / "out")


def test_the_arms_are_those_of_the_first_comparison(out: Path, tmp_path: Path) -> None:
    assert shown_arms(load_study(out)) == ("cont", "FSD+LCS")
    # Among several arms the one that the controls are compared with, or else the last of the family.
    made_up.write_study(tmp_path / "many", {})
    assert shown_arms(load_study(tmp_path / "many")) == ("cont", "FSD+LCS")
    space = made_up.manifest()["space"] | {"families": [], "controls": None}
    made_up.write_study(tmp_path / "none", {}, space=space)
    assert shown_arms(load_study(tmp_path / "none")) == ("cont", "shuffled order")


def test_alignments_are_of_the_first_comparison_with_their_loss(tmp_path: Path) -> None:
    space = made_up.manifest()["space"]
    loss_off = {"finetune.lambda_fsd": 0, "finetune.lambda_lcs": 0}
    arms = {"none": loss_off, "hard": {**loss_off, "finetune.lambda_fsd": 1}}
    arms |= {"soft": {**loss_off, "finetune.lambda_lcs": 1}}
    families = [
        {**space["families"][0], "name": name, "against": "none", "arms": [arm]}
        for name, arm in (("FSD", "hard"), ("LCS", "soft"))
    ]
    space |= {"arms": arms, "baseline": "none", "families": families, "controls": None}
    made_up.write_study(tmp_path / "two", {}, space=space)
    study = load_study(tmp_path / "two")
    assert shown_arms(study, "FSD") == ("none", "hard")
    assert shown_arms(study, "LCS") == ("none", "soft")


def test_all_arms_are_looked_at_on_the_first_seed_that_has_them(out: Path) -> None:
    study = load_study(out)
    assert [(view.arm, view.seed) for view in open_views(study, looked_at.ARMS)] == [
        ("cont", 0),
        ("FSD+LCS", 0),
    ]
    (out / details_name(looked_at.trials(out)["FSD+LCS", 0])).unlink()
    views = open_views(study, looked_at.ARMS)
    assert [(view.arm, view.seed) for view in views] == [("cont", 1), ("FSD+LCS", 1)]
    assert views[0].videos == looked_at.VIDEOS
    assert views[0].pairs == (looked_at.PAIR,)


@pytest.mark.situation(
    "storage",
    "the details of every trial are gone",
    "what they would show is left out, and the report says which file is missing",
)
def test_without_details_there_is_nothing_to_look_at(out: Path) -> None:
    for path in (out / "details").iterdir():
        path.unlink()
    with pytest.raises(NothingToShow, match=r"details of every arm of cont, FSD\+LCS .*npz is missing"):
        open_views(load_study(out), looked_at.ARMS)


def test_a_timeline_has_the_activation_by_class_and_knows_which_proposals_found_a_segment(out: Path) -> None:
    study = load_study(out)
    (view,) = open_views(study, ["cont"])
    line = timeline(study, view, "v2")
    assert line.end_s == 10.0
    assert line.time_s[:3].tolist() == [0, 0.5, 1.0]
    np.testing.assert_array_equal(line.activation["IR"], view.details["v2/cas"][:, 1])
    assert list(line.activation) == looked_at.CLASSES
    assert list(line.attention) == ["instance", "context", "background"]
    assert line.proposals["found"].tolist() == [True, False, False]
    assert line.labels == {"IR", "TRAP"}
    with pytest.raises(RecordsError, match="no details of video v9; it has those of v1, v0, v2"):
        timeline(study, view, "v9")


def test_older_records_name_classes_by_their_annotations_or_not_at_all(tmp_path: Path) -> None:
    study = load_study(looked_at.write(tmp_path / "out", older=True))
    (view,) = open_views(study, ["cont"])
    line = timeline(study, view, "v2")
    # TRAP is annotated in no test video, so it cannot be told whose the three activations are.
    assert line.activation.empty
    assert len(line.activation) == looked_at.NUM_SNIPPETS
    assert line.time_s[1] == 0.5


def test_an_alignment_has_its_path_in_order_and_the_times_of_its_snippets(out: Path, tmp_path: Path) -> None:
    study = load_study(out)
    (view,) = open_views(study, ["cont"])
    found = alignment(study, view, looked_at.PAIR, "FSD")
    assert (found.first, found.second) == ("v1", "v0")
    assert found.path is not None
    assert found.path.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found.first_s.tolist() == [0, 1, 2]
    older = load_study(looked_at.write(tmp_path / "older", older=True))
    (view,) = open_views(older, ["cont"])
    found = alignment(older, view, looked_at.PAIR, "LCS")
    assert (found.path, found.expected, found.score) == (None, None, None)
    assert found.similarity.shape == (6, 6)


@pytest.mark.parametrize("gap", [0.1, -0.1, 0.9])
def test_the_score_of_a_path_is_the_value_at_the_plain_maximum_whatever_the_arms_temperature(
    out: Path, gap: float
) -> None:
    # The value on record is a soft maximum, which grows with the temperature: between arms it is no evidence.
    rng = np.random.default_rng(0)
    match_1NM, similarity_1NM = torch.tensor(rng.uniform(0.2, 1, (2, 1, 4, 6))).requires_grad_()
    gap_1NM = torch.tensor(gap + rng.uniform(-0.05, 0.05, (1, 4, 6)))
    path = out / details_name(looked_at.trials(out)["cont", 0])
    with np.load(path) as arrays:
        changed = dict(arrays)
    pair = "|".join(looked_at.PAIR)
    values = {"FSD": fsd(match_1NM, gap_1NM, 0.0), "LCS": lcs(similarity_1NM, 0.5)}
    for kind, table_1NM in (("FSD", match_1NM), ("LCS", similarity_1NM)):
        (slope_1NM,) = torch.autograd.grad(values[kind].sum(), table_1NM)
        changed[f"{pair}/{kind.lower()}_path"] = slope_1NM[0].numpy()
        changed[f"{pair}/{TABLES[kind]}"] = table_1NM[0].detach().numpy()
    changed[f"{pair}/fsd_gap"] = gap_1NM[0].numpy()
    np.savez(path, **changed)
    study = load_study(out)
    (view,) = open_views(study, ["cont"])
    for kind, value in values.items():
        assert alignment(study, view, looked_at.PAIR, kind).score == pytest.approx(value.item())


def test_errors_of_arms_are_means_over_seeds(out: Path) -> None:
    table = errors_table(load_study(out))
    assert [row.cells[0].text for row in table.rows] == ["cont", "FSD+LCS"]
    row = dict(
        zip(
            (f"{column.group or ''}|{column.name}" for column in table.columns),
            table.rows[0].cells,
            strict=True,
        )
    )
    assert row["|seeds"].value == 3
    assert not any("Not paired" in note for note in table.notes)
    # ER: 2 right ones and 2 short ones (tIoU 1/3) are the surest 4; IR: one of each; TRAP does not count.
    assert row["of the surest detections (%), tIoU 0.5|true positive"].text == "50.0"
    assert row["of the surest detections (%), tIoU 0.5|localisation"].text == "50.0"
    assert row["|not found (%)"].text == "50.0"
    assert row["|not found (%)"].trials == tuple(looked_at.trials(out)["cont", seed] for seed in range(3))
    assert set(table.long["measure"]) >= {"mAP", "mAP_N", "not found (%)", "mAP gained without"}


def test_errors_of_several_studies_stand_side_by_side(out: Path, tmp_path: Path) -> None:
    other = looked_at.write(tmp_path / "other", seeds=2)
    table = errors_table(load_study(out), load_study(other))
    assert [row.cells[0].text for row in table.rows] == ["cont", "FSD+LCS"]
    assert [
        cell.text
        for cell, column in zip(table.rows[0].cells, table.columns, strict=True)
        if column.name == "seeds"
    ] == ["3", "2"]


def test_errors_say_which_seeds_are_missing(out: Path) -> None:
    (out / f"predictions/{looked_at.trials(out)['cont', 1]}.parquet").unlink()
    study = load_study(out)
    table = errors_table(study)
    assert table.rows[0].cells[1].text == "2"
    assert [(row, column) for row, column, _ in table.missing()] == [("cont", "seeds")]
    assert "seed 1: " in read_errors(study).missing["cont"]
    assert table.notes[0].startswith("Not paired: ")
    for path in (out / "predictions").iterdir():
        path.unlink()
    first = r"\(first: cont, seed 0: .*predictions/\d+\.parquet is missing"
    with pytest.raises(NothingToShow, match=rf"no trial .* has left detections that fit its record {first}"):
        errors_table(study)


def test_seeds_that_are_not_told_of_one_by_one_are_counted(tmp_path: Path) -> None:
    out = looked_at.write(tmp_path / "out", seeds=6)
    lost = [looked_at.trials(out)["cont", seed] for seed in range(5)]
    for trial in lost[:4]:
        (out / f"predictions/{trial}.parquet").unlink()
    assert read_errors(load_study(out)).missing["cont"].endswith("; and 1 more seed")
    (out / f"predictions/{lost[4]}.parquet").unlink()
    assert read_errors(load_study(out)).missing["cont"].endswith("; and 2 more seeds")


def test_detections_that_do_not_fit_their_record_are_left_out(out: Path) -> None:
    trial = looked_at.trials(out)["cont", 1]
    found = load_study(out).predictions(trial)
    write_predictions(open_store(out), predictions_name(trial), found.head(1).to_dict("list"))
    assert "so they are not of one run" in read_errors(load_study(out)).missing["cont"]
    write_predictions(open_store(out), predictions_name(trial), {"video": ["v0"]})
    reason = read_errors(load_study(out)).missing["cont"]
    assert "is damaged: it has no column label, start_s, end_s, score" in reason


def test_errors_are_told_for_mean_average_precision_only(tmp_path: Path) -> None:
    made_up.write_study(tmp_path / "out", {"cont": [1.0] * 8})
    with pytest.raises(NothingToShow, match=r"^score is no mean average precision of detections$"):
        errors_table(load_study(tmp_path / "out"))
