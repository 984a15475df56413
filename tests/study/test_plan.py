"""What a launch refuses of its options and settings, before anything is started or written."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from study.plan import LaunchError, Options, Plan, make_plan
from study.spec import SpecError
from study.store import StoreError
from tests.study.pretended import SPACE

MakePlan = Callable[..., Plan]


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
