"""Trials as the tables tell them: settings with their types, launches, the pretraining that counts."""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ftcl.recipes import RECIPES
from ftcl.recipes.config import configure
from study.recorded import Records
from study.records import MANIFEST, RecordsError, open_store, write_json, write_tables
from study.rows import Cell, Row
from tests.analysis import made_up

DAY = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
SETTINGS: list[dict[str, Any]] = [
    {},
    {"finetune.fsd_len": 4, "finetune.lambda_lcs": 1, "acmnet.width": 8},
    {"finetune.fsd_len": 6, "finetune.lambda_lcs": 0.1 + 2**-56, "acmnet.attention_dropout": True},
    {"localization.cas_thresholds": [0.1, 0.25], "finetune.alignment": "mean"},
    {"localization.cas_thresholds": [0.3], "finetune.pair_labels": True},
    {"finetune.pair_labels": "random", "finetune.learning_rate": 1e-300},
    {"finetune.num_pairs": None},
]


def cell(stage: str = "finetune", **changes: Any) -> Cell:
    return Cell(**{"phase": "search", "stage": stage, "seed": 3, **changes})


def records(folder: Path, rows: list[Row], **changes: Any) -> Records:
    store = open_store(folder)
    manifest = {
        **made_up.manifest(),
        "recipe": {"name": "ftcl", "version": 1},
        "launches": [
            {"at": (DAY + datetime.timedelta(days=n)).isoformat(), "num_threads": n} for n in (1, 2, 3)
        ],
    }
    write_json(store, MANIFEST, {**manifest, **changes})
    write_tables(store, rows)
    return Records(store)


def config_of(settings: Mapping[str, Any]) -> Any:
    return configure(RECIPES["ftcl"], "watch", settings)


def test_settings_have_their_types_again(tmp_path: Path) -> None:
    read = records(
        tmp_path, [Row(n, cell(), settings, "complete", DAY) for n, settings in enumerate(SETTINGS)]
    )
    for number, settings in enumerate(SETTINGS):
        found = read.settings_of(read.trial(number))
        assert found.keys() == settings.keys()
        assert config_of(found) == config_of(settings)
    assert type(read.settings_of(read.trial(1))["finetune.fsd_len"]) is int


def test_value_that_the_recipe_does_not_take_is_named(tmp_path: Path) -> None:
    read = records(tmp_path, [Row(0, cell(), {"finetune.fsd_len": 4.5}, "complete", DAY)])
    with pytest.raises(RecordsError, match=r"trial 0: finetune, search, seed 3: finetune\.fsd_len = 4\.5"):
        read.settings_of(read.trial(0))


def test_epochs_and_metrics_are_those_of_the_trial(tmp_path: Path) -> None:
    epochs = {
        1: {"loss/total": 2.0, "wall_s": 1.0},
        2: {"loss/total": 1.0, "validation/mAP": 3.0, "cpu_s": 1.0},
    }
    result = {"metrics": {"validation/mAP": 3.0}, "chosen_epoch": 2}
    rows = [
        Row(0, cell(), {}, "complete", DAY, epochs={1: {"loss/other": 5.0}}),
        Row(1, cell(arm="full"), {}, "complete", DAY, epochs=epochs, result=result),
    ]
    trial = records(tmp_path, rows).trial(1)
    assert trial.epochs == {1: {"loss/total": 2.0}, 2: {"loss/total": 1.0, "validation/mAP": 3.0}}
    assert trial.metrics == {"validation/mAP": 3.0}
    assert trial.title == "trial 1: finetune, search, arm full, seed 3"


@pytest.mark.parametrize(
    ("started", "ended", "threads"),
    [(1.5, 1.6, [1]), (1.5, 2.5, [1, 2]), (2.5, None, [2, 3]), (1.0, 9.0, [1, 2, 3])],
)
def test_launches_that_ran_a_trial(
    tmp_path: Path, started: float, ended: float | None, threads: list[int]
) -> None:
    at = [None if day is None else DAY + datetime.timedelta(days=day) for day in (started, ended)]
    assert at[0] is not None
    read = records(tmp_path, [Row(0, cell(), {}, "complete", at[0], at[1])])
    assert [launch["num_threads"] for launch in read.launches_of(read.trial(0))] == threads
    assert read.num_threads_of(read.trial(0)) == threads[-1]


def test_pretraining_that_counts_is_taken(tmp_path: Path) -> None:
    pretrain = cell("pretrain", pretrain_key="key")
    rows = [
        Row(0, pretrain, {}, "failed", DAY),
        Row(1, pretrain, {}, "complete", DAY),
        Row(2, pretrain, {}, "complete", DAY, superseded="made again"),
        Row(3, cell(pretrain_key="key"), {}, "complete", DAY),
    ]
    read = records(tmp_path, rows)
    assert read.pretraining("key", "pretrain").trial == 1
    with pytest.raises(RecordsError, match="no complete pretraining of other"):
        read.pretraining("other", "pretrain")


def test_study_of_another_recipe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="a study of the recipe carl, which is none"):
        records(tmp_path, [], recipe={"name": "carl", "version": 1})


def test_study_that_has_just_started_has_no_trial(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"no trial 0 on record \(there are none yet\)"):
        records(tmp_path, []).trial(0)
