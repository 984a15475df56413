"""The curves of a trial in TensorBoard: while it runs, and after it was killed."""

from dataclasses import replace

import pytest

from study.job import Job, News, Setup
from study.records import curves_folder
from study.store import Store
from study.trial import run_trial
from tests.study.trials import curves_of, killed_after, steps_of, told


@pytest.mark.parametrize("spoil", ["truncate", "keep"])
def test_curves_hold_every_epoch_once_after_kills(
    setup: Setup, store: Store, finetune: Job, spoil: str
) -> None:
    for attempt, epoch in ((1, 1), (2, 1), (3, 2)):
        killed_after(epoch, replace(finetune, attempt=attempt), setup)
        (name,) = store.names(curves_folder(1))
        if spoil == "truncate":
            content = store.read(f"{curves_folder(1)}/{name}")
            store.write(f"{curves_folder(1)}/{name}", content[:-7])
    told(replace(finetune, attempt=4), setup)
    (name,) = store.names(curves_folder(1))
    assert name.endswith(".finetune.0004")
    events = curves_of(store)
    for tag in ("validation/mAP@0.5", "loss/total"):
        assert [event.step for event in events.Scalars(tag)] == [1, 2, 3]
    described = events.PluginTagToContent("hparams")
    assert "_hparams_/session_start_info" in described
    # TensorBoard would take the columns of all trials from whichever describes an experiment first.
    assert "_hparams_/experiment" not in described


def test_curves_can_be_followed_while_the_trial_runs(setup: Setup, store: Store, finetune: Job) -> None:
    seen: list[list[int]] = []

    def look(news: News) -> None:
        if news.epochs:
            seen.append(steps_of(store))

    run_trial(finetune, setup, look)
    assert seen == [[1], [1, 2], [1, 2, 3]]
