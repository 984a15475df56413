"""Studies that consist of their ablation, run for real, from the first trial to the table."""

import json
from pathlib import Path

import pytest

from analysis import ablation_table, load_study
from analysis.ablation import main_table
from analysis.markdown import ablation_markdown
from study.records import MANIFEST
from tests.study.small_study import run_small_study

ONE_STAGE = {
    "recipe": "acmnet",
    "fixed": {"pretrain.epochs": 2},
    "search": None,
    "ablation": {
        "seeds": 2,
        "baseline": "default",
        "arms": {"default": {}, "no guide": {"acmnet.lambda_guide": 0.0}},
        "families": [
            {"name": "terms", "metric": "mAP@0.1:0.7", "arms": ["no guide"], "against": "default"},
        ],
    },
    "gate": {"metric": "mAP@0.1:0.7", "at_least": 101.0},
}


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("studies") / "gated"
    run_small_study(out, **ONE_STAGE)
    return out


def test_manifest_has_no_winner_and_the_seeds_of_the_ablation_alone(gated: Path) -> None:
    manifest = json.loads((gated / MANIFEST).read_text())
    assert manifest["winner"] is None
    assert manifest["finished"]
    assert manifest["recipe"]["stages"] == ["pretrain"]
    assert manifest["seeds"] == {"ablation": {"ungated": [0, 1], "gated": []}}


@pytest.mark.situation(
    "input",
    "in a recipe of one stage no seed passes the gate",
    "3 × the wanted seeds run; the table of the gated seeds is empty, that of the first seeds is whole",
)
def test_both_selections_of_a_recipe_of_one_stage_are_shown(gated: Path) -> None:
    study = load_study(gated)
    table = ablation_table(study)
    counts = table[table["metric"] == study.headline].groupby(["seeds", "arm"])["n"].max()
    assert counts["gated"].max() == 0
    assert counts["ungated"][["default", "no guide"]].tolist() == [2, 2]
    assert main_table(study, table)["seeds"].unique().tolist() == ["gated"]
    arms = study.trials[study.trials["phase"] == "ablation"]
    assert sorted(arms["seed"].unique()) == [0, 1, 2, 3, 4, 5]
    page = ablation_markdown(study, table)
    assert "mAP@0.1:0.7 of the models of all arms at least 101 on validation" in page
    assert "only 0 of the 2 wanted seeds passed the gate" in page
    assert study.gate is not None
    assert study.gate.clause.startswith("on which the models of all arms reached")


def test_arms_run_on_the_defaults_without_a_search(tmp_path: Path) -> None:
    run_small_study(tmp_path / "out", search=None)
    study = load_study(tmp_path / "out")
    assert study.winner is None
    assert set(study.trials["phase"]) == {"ablation", "context"}
    full = study.trials[study.trials["arm"] == "full"].iloc[0]
    assert json.loads(full["settings"]) == {"finetune.epochs": 2, "pretrain.epochs": 2}
