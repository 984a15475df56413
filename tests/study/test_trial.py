"""One trial in this process: real data, real training, no Ray."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from ftcl.data import load_dataset
from study.job import Job, News, Setup
from study.records import details_name, predictions_name
from study.store import Store, open_store
from study.trial import run_trial
from tests.study.pretended import acm_folder
from tests.study.trials import FINETUNE, METRIC, PRETRAIN, epochs_of, make_setup, result_of, told


def test_pretraining_and_finetuning_leave_their_files(tmp_path: Path) -> None:
    setup = make_setup(tmp_path)
    store = open_store(tmp_path)
    pretrained = result_of(told(PRETRAIN, setup))
    assert pretrained["export"].startswith("pretrained/key-0001-")
    assert store.exists(pretrained["export"])
    assert f"validation/{METRIC}" in pretrained["metrics"]

    news = told(replace(FINETUNE, init=pretrained["export"]), setup)
    result = result_of(news)
    by_epoch = epochs_of(news)
    assert sorted(by_epoch) == [1, 2, 3]
    scores = {epoch: metrics[f"validation/{METRIC}"] for epoch, metrics in by_epoch.items()}
    assert scores[result["chosen_epoch"]] == max(scores.values())
    assert result["metrics"][f"validation/{METRIC}"] == max(scores.values())
    assert f"test/{METRIC}" in result["metrics"]
    assert result["environment"] == {
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "num_threads": 1,
    }
    assert result["checkpoint"] == "checkpoints/finetune"
    assert (result["export"], result["notes"]) == (None, [])

    table = pq.read_table(tmp_path / predictions_name(1))
    assert table.column_names == ["video", "label", "start_s", "end_s", "score"]
    with np.load(tmp_path / details_name(1), allow_pickle=False) as details:
        video = setup.detail_videos[0]
        assert details[f"{video}/cas"].shape[1] == 4
        assert details[f"{video}/attention"].shape[1] == 3
        assert any(name.endswith("/lcs_similarity") for name in details.files)
    kept = [name for name in store.names(result["checkpoint"]) if name.endswith(".pt")]
    assert [name[:11] for name in kept] == ["0001-000003"]


def test_news_say_first_where_the_attempt_goes_on_and_always_who_speaks(setup: Setup, finetune: Job) -> None:
    news: list[News] = []
    run_trial(replace(finetune, attempt=3), setup, news.append, node="abc")
    assert (news[0].resumed_epoch, news[0].epochs) == (0, {})
    assert all(item.resumed_epoch is None for item in news[1:])
    assert {(item.trial, item.attempt, item.node) for item in news} == {(1, 3, "abc")}
    assert all(item.host for item in news)


def test_epochs_that_decide_nothing_are_told_together(setup: Setup, finetune: Job) -> None:
    """With what comes next: a rung, the trial's end, or, before an end that takes time, the last epoch."""
    patient = replace(setup, report_every_s=1e9)
    job = replace(finetune, test=False, rungs=(2,), run_key="search")
    news = told(job, patient)
    assert [sorted(item.epochs) for item in news] == [[1, 2], [3]]
    assert epochs_of(news) == epochs_of(told(replace(job, run_key="search again"), setup))
    assert result_of(news)["metrics"] == result_of(told(replace(job, run_key="and again"), setup))["metrics"]

    news = told(replace(finetune, run_key="ablation"), patient)
    assert [sorted(item.epochs) for item in news] == [[1, 2, 3], []]


def test_search_trial_never_sees_the_test_videos(setup: Setup, store: Store, finetune: Job) -> None:
    result = result_of(told(replace(finetune, test=False), setup))
    assert not [name for name in result["metrics"] if name.startswith("test/")]
    assert not store.exists(predictions_name(1))


def test_reference_protocol_needs_no_validation_videos(tmp_path: Path) -> None:
    data = load_dataset(f"acm:{acm_folder(tmp_path / 'data')}", hold_out=False)
    setup = make_setup(
        tmp_path,
        data=data.spec,
        protocol="reference",
        fingerprint=data.fingerprint,
        detail_videos=(),
    )
    parameters = {"pretrain.epochs": 1, "finetune.epochs": 1, "acmnet.num_snippets": 40, "acmnet.width": 8}
    export = result_of(told(replace(PRETRAIN, parameters=parameters), setup))["export"]
    result = result_of(told(replace(FINETUNE, parameters=parameters, init=export), setup))
    assert {name.partition("/")[0] for name in result["metrics"]} == {"test"}


def test_no_epochs_evaluates_the_pretrained_model(setup: Setup, store: Store, finetune: Job) -> None:
    pretrained = result_of(told(PRETRAIN, setup))
    result = result_of(told(replace(finetune, parameters={"finetune.epochs": 0}), setup))
    assert result["chosen_epoch"] == 0
    assert result["metrics"][f"validation/{METRIC}"] == pretrained["metrics"][f"validation/{METRIC}"]
