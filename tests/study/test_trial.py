"""One trial in this process: real data, real training, no Ray."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from study.job import Job, News, Setup
from study.launch import make_setup
from study.plan import Plan
from study.pretrain import export_path
from study.records import checkpoint_path, curves_path, details_path, predictions_path
from study.trial import run_trial
from tests.study.pretended import acm_folder

PRETRAIN = Job(trial=0, stage=0, seed=1, parameters={}, init_key=None, export_key="key", test=False)
FINETUNE = Job(
    trial=1,
    stage=1,
    seed=1,
    parameters={"finetune.epochs": 3},
    init_key="key",
    export_key=None,
    test=True,
)


@pytest.fixture
def setup(make_small_plan: Callable[..., Plan]) -> Setup:
    plan = make_small_plan()
    plan.out.mkdir()
    return make_setup(plan, [0.0, 0.0])


def told(job: Job, setup: Setup) -> list[News]:
    news: list[News] = []
    run_trial(job, setup, news.append)
    return news


def epochs_of(news: list[News]) -> dict[int, dict[str, float]]:
    """Metrics by epoch, without what depends on the clock."""
    return {
        epoch: {name: value for name, value in metrics.items() if not name.endswith("_s")}
        for item in news
        for epoch, metrics in item.epochs.items()
    }


def test_pretraining_and_finetuning_leave_their_files(setup: Setup) -> None:
    pretrained = told(PRETRAIN, setup)
    assert pretrained[-1].failure is None
    assert export_path(setup.out, "key").exists()
    assert "validation/mAP@0.1:0.7" in (pretrained[-1].result or {})["metrics"]

    news = told(FINETUNE, setup)
    result: Any = news[-1].result
    assert sorted(epochs_of(news)) == [1, 2, 3]
    assert result["chosen_epoch"] in (1, 2, 3)
    by_epoch = epochs_of(news)
    scores = {epoch: metrics["validation/mAP@0.1:0.7"] for epoch, metrics in by_epoch.items()}
    assert scores[result["chosen_epoch"]] == max(scores.values())
    assert result["metrics"]["validation/mAP@0.1:0.7"] == max(scores.values())
    assert "test/mAP@0.1:0.7" in result["metrics"]

    table = pq.read_table(predictions_path(setup.out, 1))
    assert table.column_names == ["video", "label", "start_s", "end_s", "score"]
    with np.load(details_path(setup.out, 1), allow_pickle=False) as details:
        video = setup.detail_videos[0]
        assert details[f"{video}/cas"].shape[1] == 4
        assert details[f"{video}/attention"].shape[1] == 3
        assert any(name.endswith("/lcs_similarity") for name in details.files)


def test_search_trial_never_sees_the_test_videos(setup: Setup) -> None:
    told(PRETRAIN, setup)
    news = told(replace(FINETUNE, test=False), setup)
    result: Any = news[-1].result
    assert not [name for name in result["metrics"] if name.startswith("test/")]
    assert not predictions_path(setup.out, 1).exists()


def test_reference_protocol_needs_no_validation_videos(
    make_small_plan: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = make_small_plan(data=f"acm:{acm_folder(tmp_path / 'data')}", protocol="reference")
    plan.out.mkdir()
    setup = make_setup(plan, [0.0, 0.0])
    parameters = {"pretrain.epochs": 1, "finetune.epochs": 1, "acmnet.num_snippets": 40, "acmnet.width": 8}
    assert told(replace(PRETRAIN, parameters=parameters), setup)[-1].failure is None
    result: Any = told(replace(FINETUNE, parameters=parameters), setup)[-1].result
    assert {name.partition("/")[0] for name in result["metrics"]} == {"test"}


def test_no_epochs_evaluates_the_pretrained_model(setup: Setup) -> None:
    pretrained: Any = told(PRETRAIN, setup)[-1].result
    result: Any = told(replace(FINETUNE, parameters={"finetune.epochs": 0}), setup)[-1].result
    assert result["chosen_epoch"] == 0
    name = "validation/mAP@0.1:0.7"
    assert result["metrics"][name] == pretrained["metrics"][name]


class Killed(BaseException):
    """What a dying worker looks like to the code that it runs."""


def test_interrupted_trial_continues_bit_for_bit(setup: Setup, tmp_path: Path) -> None:
    told(PRETRAIN, setup)
    whole = told(FINETUNE, setup)
    again = replace(FINETUNE, trial=2)

    def die_after_second_epoch(news: News) -> None:
        if 2 in news.epochs:
            raise Killed

    with pytest.raises(Killed):
        run_trial(again, setup, die_after_second_epoch)
    assert checkpoint_path(setup.out, 2).exists()
    rest = told(again, setup)

    assert epochs_of(rest) == epochs_of(whole)
    first: Any = whole[-1].result
    second: Any = rest[-1].result
    assert second["metrics"] == first["metrics"]
    assert second["chosen_epoch"] == first["chosen_epoch"]


def test_curves_hold_every_epoch_once_after_an_interruption(setup: Setup) -> None:
    told(PRETRAIN, setup)

    def die_after_first_epoch(news: News) -> None:
        if 1 in news.epochs:
            raise Killed

    with pytest.raises(Killed):
        run_trial(FINETUNE, setup, die_after_first_epoch)
    told(FINETUNE, setup)
    events = EventAccumulator(str(curves_path(setup.out, 1))).Reload()
    assert [event.step for event in events.Scalars("validation/mAP@0.5")] == [1, 2, 3]
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")


def test_error_of_the_method_is_the_trials_failure(setup: Setup) -> None:
    news = told(replace(FINETUNE, init_key="absent"), setup)
    assert len(news) == 1
    assert "FileNotFoundError" in (news[0].failure or "")


def test_loss_that_blows_up_is_recorded_with_epoch_and_term(setup: Setup) -> None:
    told(PRETRAIN, setup)
    parameters = {"finetune.epochs": 3, "finetune.learning_rate": 1.0e30}
    failure = told(replace(FINETUNE, parameters=parameters), setup)[-1].failure or ""
    assert "NonFiniteLoss" in failure
    assert "epoch" in failure
