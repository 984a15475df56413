"""Trials that are small enough for a test: real data, real training, no Ray and no plan."""

import functools
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ftcl.data import VideoDataset, load_dataset
from study.job import Job, News, Setup
from study.records import curves_folder
from study.store import Store
from study.trial import run_trial

PRETRAIN = Job(
    trial=0,
    stage=0,
    seed=1,
    parameters={"pretrain.epochs": 2},
    init=None,
    export_key="key",
    test=False,
    run_key="pretrain",
)
FINETUNE = Job(
    trial=1,
    stage=1,
    seed=1,
    parameters={"finetune.epochs": 3},
    init=None,  # see the fixture finetune
    export_key=None,
    test=True,
    run_key="finetune",
)
METRIC = "mAP@0.1:0.7"


@functools.cache
def synthetic_data() -> VideoDataset:
    return load_dataset("synthetic")


def make_setup(out: object, **changes: Any) -> Setup:
    data = synthetic_data()
    settings: dict[str, Any] = {
        "out": str(out),
        "recipe": "ftcl",
        "data": data.spec,
        "fold": 0,
        "data_seed": 0,
        "fingerprint": data.fingerprint,
        "protocol": "default",
        "metric": METRIC,
        "deterministic": False,
        "detail_videos": ("test_00", "test_03"),  # of one class
        "num_threads": 1,
        "gpus": (0.0, 0.0),
    }
    return Setup(**{**settings, **changes})


def told(job: Job, setup: Setup) -> list[News]:
    """Run a trial and return all that it has to say."""
    news: list[News] = []
    run_trial(job, setup, news.append)
    return news


class Killed(BaseException):
    """What a dying worker looks like to the code that it runs."""


def killed_after(epoch: int, job: Job, setup: Setup) -> list[News]:
    """Run a trial until it tells of an epoch, and die there."""
    news: list[News] = []

    def report(item: News) -> None:
        news.append(item)
        if epoch in item.epochs:
            raise Killed

    try:
        run_trial(job, setup, report)
    except Killed:
        return news
    raise AssertionError(f"the trial never told of epoch {epoch}: {news}")


def epochs_of(news: list[News]) -> dict[int, dict[str, float]]:
    """Metrics by epoch, without what depends on the clock."""
    return {
        epoch: {name: value for name, value in metrics.items() if not name.endswith("_s")}
        for item in news
        for epoch, metrics in item.epochs.items()
    }


def result_of(news: list[News]) -> dict[str, Any]:
    assert news[-1].result is not None, news[-1].failure
    return dict(news[-1].result)


def curves_of(store: Store, trial: int = FINETUNE.trial) -> EventAccumulator:
    assert store.local is not None
    return EventAccumulator(str(store.local / curves_folder(trial))).Reload()


def steps_of(store: Store, trial: int = FINETUNE.trial) -> list[int]:
    """Epochs in a trial's curves, in their order."""
    return [event.step for event in curves_of(store, trial).Scalars("loss/total")]
