"""Everything that a launch refuses, before anything is started or written."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcl.data import DataError
from study.plan import LaunchError, Options, Plan, make_plan
from study.records import MANIFEST, RecordsError, write_json
from study.spec import SpecError
from study.store import StoreError
from tests.study.pretended import SPACE, acm_folder

MakePlan = Callable[..., Plan]


def test_small_data_set_in_the_published_layout_is_accepted(
    make_small_plan: MakePlan, tmp_path: Path
) -> None:
    plan = make_small_plan(data=f"acm:{acm_folder(tmp_path / 'data')}")
    assert plan.data.classes == ("Jump", "Run")
    assert not (tmp_path / "out").exists()


def test_reference_protocol_trains_on_all_training_videos(make_small_plan: MakePlan, tmp_path: Path) -> None:
    data = f"acm:{acm_folder(tmp_path / 'data')}"
    plan = make_small_plan(data=data, protocol="reference")
    assert len(plan.data.splits["train"]) == 8
    assert plan.goal.name == "test/mAP@0.1:0.7"
    gate = {"metric": "mAP@0.1:0.7", "at_least": 1.0}
    with pytest.raises(LaunchError, match="no validation videos"):
        make_small_plan(space={"gate": gate}, data=data, protocol="reference")


def break_features(value: Any) -> Callable[[Path], None]:
    return lambda folder: np.save(folder / "train" / "train_3.npy", value)


def break_split(folder: Path) -> None:
    (folder / "split_test.txt").write_text("test_0\ntrain_1\n")


def remove_features(folder: Path) -> None:
    (folder / "test" / "test_1.npy").unlink()


def damaged(damage: Callable[[Path], None], words: str, what: str) -> Any:
    then = "nothing starts; the video or its file is named"
    return pytest.param(damage, words, marks=pytest.mark.situation("input", what, then))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        damaged(
            break_features(np.full((12, 6), np.nan, np.float32)),
            "train_3",
            "a feature file holds NaN",
        ),
        damaged(break_features(np.zeros((0, 6), np.float32)), "train_3", "a feature file is empty"),
        damaged(
            break_features(np.ones((12, 5), np.float32)),
            "train_3",
            "a video's features have another width than the others'",
        ),
        damaged(
            break_features(np.array([{"a": 1}], dtype=object)),
            "train_3",
            "a feature file holds pickled objects, which could run code",
        ),
        damaged(break_split, "train_1", "a video is in two splits"),
        damaged(remove_features, "test_1", "the feature file of a video is missing"),
    ],
    ids=["nan", "empty", "width", "pickle", "two splits", "missing"],
)
def test_damaged_data_are_refused_and_nothing_is_left(
    make_small_plan: MakePlan, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    folder = acm_folder(tmp_path / "data")
    damage(folder)
    with pytest.raises(DataError, match=words):
        make_small_plan(data=f"acm:{folder}")
    assert not (tmp_path / "out").exists()


@pytest.mark.situation(
    "input",
    "an annotated segment ends before it starts, or starts before its video",
    "nothing starts; the video and the segment are named",
)
@pytest.mark.parametrize("segment", [[-1.0, 3.0], [3.0, 3.0], [4.0, 3.0]])
def test_impossible_segment_is_refused(
    make_small_plan: MakePlan, tmp_path: Path, segment: list[float]
) -> None:
    folder = acm_folder(tmp_path / "data", segment=segment)
    with pytest.raises(DataError, match="segment"):
        make_small_plan(data=f"acm:{folder}")


@pytest.mark.situation(
    "input", "the folder of the data does not exist", "nothing starts; the folder is named"
)
def test_missing_data_folder_is_named(make_small_plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        make_small_plan(data=f"acm:{tmp_path / 'nowhere'}")


@pytest.mark.situation("input", "--space is misspelt", "nothing starts; the nearest name is offered")
def test_unknown_space_names_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean fsd_lcs"):
        make_plan(Options(space="fsd_lsc"))


@pytest.mark.situation(
    "environment",
    "--out cannot be written, or is a file",
    "nothing starts and nothing is left there; the message asks for another --out",
)
def test_unwritable_output_is_refused_and_nothing_is_left(make_small_plan: MakePlan, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        make_small_plan(out="/proc/study/out")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another --out"):
        make_small_plan(out=str(tmp_path / "file" / "out"))
    with pytest.raises(LaunchError, match="is a file"):
        make_small_plan(out=str(tmp_path / "file"))


@pytest.mark.situation(
    "input",
    "more seeds are asked for than the phases of a study can share out",
    "nothing starts; the message names what to lower",
)
@pytest.mark.parametrize(
    "options",
    [{"seed": 100_001}, {"seeds": 3_001}, {"seeds": 1_001, "gate": True}],
    ids=["seed", "seeds", "gate"],
)
def test_more_seeds_than_there_are_are_refused(make_small_plan: MakePlan, options: dict[str, Any]) -> None:
    gate = {"metric": "mAP@0.1:0.7", "at_least": 1.0} if options.pop("gate", False) else None
    with pytest.raises(LaunchError, match="seed"):
        make_small_plan(space={"gate": gate}, **options)


def test_what_does_not_change_numbers_may_change(make_small_plan: MakePlan) -> None:
    first = make_small_plan()
    write_json(first.store, MANIFEST, first.manifest)
    resources = {"finetune": {"gpus": 0.5}}
    assert not make_small_plan(space={"title": "Spelt right", "resources": resources}).is_new


@pytest.mark.situation(
    "kill",
    "the driver is killed before it has written its manifest",
    "the next start finds no study there and begins it",
)
def test_leftover_of_a_killed_start_does_not_block_the_next(
    make_small_plan: MakePlan, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / ".manifest.json.12ab.tmp").write_text("{")
    assert make_small_plan().is_new


@pytest.mark.situation(
    "input",
    "an arm or the end of a range is valid by itself, and would fail after hours of pretraining",
    "nothing starts; the arm or the value is named",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"fixed": {"finetune.epochs": 3, "finetune.lcs_len": 400}}, "the defaults: .*lcs_len"),
        (
            {
                "ablation": {
                    **SPACE["ablation"],
                    "arms": {**SPACE["ablation"]["arms"], "x": {"finetune.fsd_len": 90}},
                }
            },
            "arm x",
        ),
        (
            {"search": {**SPACE["search"], "parameters": {"finetune.fsd_len": {"int": [3, 99]}}}},
            "fsd_len = 99",
        ),
    ],
    ids=["fixed", "arm", "range"],
)
def test_settings_that_would_fail_after_pretraining_are_refused(
    make_small_plan: MakePlan, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(LaunchError, match=words):
        make_small_plan(space=change)


@pytest.mark.situation(
    "input", "--out is a folder with other files", "nothing starts, and the files stay as they are"
)
def test_folder_with_other_files_is_refused(make_small_plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("")
    with pytest.raises(LaunchError, match="other files"):
        make_small_plan()


@pytest.mark.situation(
    "input",
    "--resume require is given where no study is, or --resume never where one is",
    "nothing starts; the message says what is there",
)
def test_study_is_continued_or_refused_as_asked(make_small_plan: MakePlan) -> None:
    with pytest.raises(LaunchError, match="no study to continue"):
        make_small_plan(resume="require")
    first = make_small_plan()
    write_json(first.store, MANIFEST, first.manifest)
    assert make_small_plan().manifest == first.manifest
    assert make_small_plan(resume="require").manifest == first.manifest
    with pytest.raises(LaunchError, match="holds a study already"):
        make_small_plan(resume="never")


@pytest.mark.situation(
    "input",
    "a study is continued with another seed, protocol, data seed or setting",
    "nothing starts; every difference is named",
)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed: 0 there, 1 now"),
        ({"ledger": "sqlite:////tmp/other.db"}, "ledger: ledger.journal there, sqlite:////tmp/other.db now"),
        ({"deterministic": True}, "determinism: False there, True now"),
        ({"protocol": "reference"}, "protocol: default there, reference now"),
        ({"data_seed": 4}, "data seed: 0 there, 4 now"),
        ({"space": {"fixed": {"finetune.epochs": 4}}}, "finetune.epochs: 3 there, 4 now"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_output_of_another_study_says_what_differs(
    make_small_plan: MakePlan, change: dict[str, Any], words: str
) -> None:
    first = make_small_plan()
    write_json(first.store, MANIFEST, first.manifest)
    with pytest.raises(LaunchError, match="holds another study") as error:
        make_small_plan(**change)
    assert words in str(error.value)


class TestExtending:
    """What a launch may ask of a study that is there."""

    @pytest.fixture(autouse=True)
    def begun(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(trials=6, seeds=2)
        write_json(plan.store, MANIFEST, {**plan.manifest, "finished": True})

    def test_same_again_is_finished(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan()
        assert plan.finished and plan.extension.lines == ()

    @pytest.mark.parametrize(
        ("options", "words"),
        [({"trials": 9}, "6 → 9 proposals"), ({"seeds": 5}, "2 → 5 seeds of the ablation")],
    )
    def test_more_is_an_extension(self, make_small_plan: MakePlan, options: Any, words: str) -> None:
        plan = make_small_plan(**options)
        assert not plan.finished
        assert words in plan.extension.lines[0]
        assert plan.manifest["id"] == make_small_plan().manifest["id"]

    @pytest.mark.situation(
        "input",
        "a study is continued with fewer proposals or seeds than it has",
        "nothing starts: results would be left out; the number that it has is named",
    )
    @pytest.mark.parametrize("options", [{"trials": 5}, {"seeds": 1}])
    def test_less_is_refused(self, make_small_plan: MakePlan, options: Any) -> None:
        with pytest.raises(LaunchError, match="would leave results out"):
            make_small_plan(**options)

    def test_without_the_flag_a_study_keeps_what_it_was_extended_to(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(trials=9, seeds=4)
        write_json(plan.store, MANIFEST, plan.manifest)
        again = make_small_plan()
        assert (again.space.search.trials, again.space.ablation.seeds) == (9, 4)

    def test_a_search_may_neither_come_nor_go(self, make_small_plan: MakePlan) -> None:
        with pytest.raises(LaunchError, match="holds another study"):
            make_small_plan(space={"search": None})

    def test_arms_may_come_change_and_go(self, make_small_plan: MakePlan) -> None:
        arms = {"cont": {"finetune.lambda_fsd": 0.1}, "FSD+LCS": {}, "new": {"finetune.lambda_lcs": 0.0}}
        plan = make_small_plan(space={"ablation": {**SPACE["ablation"], "arms": arms}})
        text = "\n".join(plan.extension.lines)
        assert "arm new is new" in text
        assert "arm cont has other settings" in text
        assert "arm acmnet is no longer asked for" in text

    def test_other_comparisons_need_no_trials(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"ablation": {**SPACE["ablation"], "families": []}})
        assert plan.finished
        assert plan.extension.lines == ("the comparisons are others; the table is made anew",)
        assert plan.manifest["space"]["families"] == []

    def test_failed_trials_are_run_again_only_on_request(self, make_small_plan: MakePlan) -> None:
        assert not make_small_plan(retry_failed=True).finished


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("45m", 2700.0), ("1.5h", 5400.0)])
def test_time_budget_is_read(make_small_plan: MakePlan, text: str, seconds: float) -> None:
    assert make_small_plan(time_budget=text).time_budget_s == seconds


@pytest.mark.situation(
    "input", "--time-budget is no time", "nothing starts; the message shows how to write one"
)
@pytest.mark.parametrize("text", ["8", "0h", "h", "-3m", "1h30m"])
def test_wrong_time_budget_is_refused(make_small_plan: MakePlan, text: str) -> None:
    with pytest.raises(LaunchError, match="90s, 45m or 8h"):
        make_small_plan(time_budget=text)


def test_password_of_a_ledger_is_not_in_the_records(
    make_small_plan: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    password = secrets.token_hex(8)
    url = f"postgresql://me:{password}@db.example.org/studies"
    monkeypatch.setattr("sys.argv", ["run_study.py", "--ledger", url])
    plan = make_small_plan(ledger=url)
    assert password not in json.dumps(plan.manifest) + repr(plan)
    assert plan.manifest["ledger"] == "postgresql://me@db.example.org/studies"


@pytest.mark.situation(
    "input", "the data have changed since the study was begun", "nothing starts; both fingerprints are named"
)
def test_output_of_other_data_says_so(make_small_plan: MakePlan, tmp_path: Path) -> None:
    folder = acm_folder(tmp_path / "data")
    first = make_small_plan(data=f"acm:{folder}")
    write_json(first.store, MANIFEST, first.manifest)
    np.save(folder / "train" / "train_0.npy", np.full((12, 6), 2.0, np.float32))
    with pytest.raises(LaunchError, match="content of the data"):
        make_small_plan(data=f"acm:{folder}")


@pytest.mark.situation(
    "storage",
    "the manifest of a study is damaged",
    "nothing starts; the file is named, and nothing in the folder is changed",
)
def test_damaged_manifest_is_named(make_small_plan: MakePlan, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MANIFEST).write_text("{")
    with pytest.raises(RecordsError, match="not valid JSON"):
        make_small_plan()


class TestWithoutSearch:
    """A study that consists of its ablation."""

    @pytest.fixture(autouse=True)
    def begun(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"search": None})
        write_json(plan.store, MANIFEST, {**plan.manifest, "finished": True})

    def test_same_again_is_finished(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"search": None})
        assert plan.finished and plan.extension.lines == ()

    def test_more_seeds_extend_it(self, make_small_plan: MakePlan) -> None:
        plan = make_small_plan(space={"search": None}, seeds=5)
        assert not plan.finished
        assert plan.extension.lines == ("2 → 5 seeds of the ablation, for each of 3 arms",)

    @pytest.mark.situation(
        "input",
        "--trials is given to a study without a search",
        "nothing starts: there are no proposals that could be more",
    )
    def test_trials_are_refused(self, make_small_plan: MakePlan, tmp_path: Path) -> None:
        for out in ("out", "other"):
            with pytest.raises(SpecError, match="has no search, so it makes no proposals; drop --trials"):
                make_small_plan(space={"search": None}, trials=3, out=str(tmp_path / out))
