"""What an attempt takes over from the ones before it, and what they may no longer do."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from study.checkpoints import AttemptCheckpoints, Fenced, checkpoint_folder
from study.job import Job, News, Setup
from study.records import curves_folder, details_name, predictions_name
from study.store import Store
from study.trial import run_trial
from tests.study.trials import PRETRAIN, epochs_of, killed_after, result_of, steps_of, told


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_interrupted_trial_continues_bit_for_bit(
    setup: Setup, store: Store, finetune: Job, epoch: int
) -> None:
    whole = told(finetune, setup)
    again = replace(finetune, trial=2, run_key="again")
    killed_after(epoch, again, setup)
    rest = told(replace(again, attempt=2), setup)
    assert rest[0].resumed_epoch == epoch
    assert sorted(rest[0].epochs) == list(range(1, epoch + 1))
    assert epochs_of(rest) == epochs_of(whole)
    names = ("metrics", "chosen_epoch")
    assert [result_of(rest)[name] for name in names] == [result_of(whole)[name] for name in names]
    assert store.read(predictions_name(2)) == store.read(predictions_name(1))
    assert steps_of(store, 2) == steps_of(store, 1) == [1, 2, 3]


def test_epochs_between_checkpoints_are_trained_again(setup: Setup, finetune: Job) -> None:
    setup = replace(setup, every=2)
    job = replace(finetune, parameters={"finetune.epochs": 5})
    whole = told(job, setup)
    again = replace(job, run_key="again")
    killed_after(3, again, setup)
    rest = told(replace(again, attempt=2), setup)
    assert rest[0].resumed_epoch == 2
    assert epochs_of(rest) == epochs_of(whole)


def test_a_finished_trial_whose_end_was_never_heard_only_tells_it_again(
    setup: Setup, store: Store, finetune: Job
) -> None:
    first = told(finetune, setup)
    again = told(replace(finetune, attempt=2), setup)
    assert again[0].resumed_epoch == 3
    assert epochs_of(again) == epochs_of(first)
    assert result_of(again)["metrics"] == result_of(first)["metrics"]
    assert steps_of(store) == [1, 2, 3]


def test_the_state_before_is_kept_until_the_result_was_told(
    setup: Setup, store: Store, finetune: Job
) -> None:
    def states() -> int:
        return sum(name.endswith(".pt") for name in store.names(checkpoint_folder("finetune")))

    at_result: list[int] = []
    run_trial(finetune, setup, lambda news: at_result.append(states()) if news.result else None)
    assert at_result == [2]
    assert states() == 1


def test_a_zombie_leaves_nothing_behind_its_successor(setup: Setup, store: Store, finetune: Job) -> None:
    whole = told(replace(finetune, run_key="whole", trial=5), setup)
    successor: list[News] = []
    own: list[News] = []

    def overtaken(news: News) -> None:
        own.append(news)
        if 2 in news.epochs:
            successor.extend(told(replace(finetune, attempt=2), setup))

    with pytest.raises(Fenced):
        run_trial(finetune, setup, overtaken)
    assert not any(3 in news.epochs or news.result or news.failure for news in own)
    assert result_of(successor)["metrics"] == result_of(whole)["metrics"]
    assert steps_of(store) == [1, 2, 3]
    (name,) = store.names(curves_folder(1))
    assert name.endswith(".0002")


def successor_begins(store: Store, job: Job, epoch: int) -> Callable[[News], None]:
    """Let the next attempt begin while the first one tells of an epoch."""

    def report(news: News) -> None:
        if epoch in news.epochs:
            AttemptCheckpoints(store, job.run_key, 2, keep=2)

    return report


def test_a_zombie_that_comes_to_its_result_does_not_write_it(
    setup: Setup, store: Store, finetune: Job
) -> None:
    with pytest.raises(Fenced):
        run_trial(finetune, setup, successor_begins(store, finetune, 3))
    assert not store.exists(predictions_name(1))
    assert not store.exists(details_name(1))
    with pytest.raises(Fenced):
        run_trial(replace(PRETRAIN, export_key="late"), setup, successor_begins(store, PRETRAIN, 2))
    assert not any("late" in name for name in store.names("pretrained"))


@pytest.mark.situation(
    "storage",
    "the ledger has lost its tail and gives a trial's number to another one",
    "files of the forgotten trial are removed, and its checkpoints found again by what they compute",
)
def test_a_number_that_is_given_again_starts_clean(setup: Setup, store: Store, finetune: Job) -> None:
    told(finetune, setup)
    other = replace(finetune, test=False, run_key="other", parameters={"finetune.epochs": 2})
    told(other, setup)
    assert not store.exists(predictions_name(1))
    assert not store.exists(details_name(1))
    assert steps_of(store) == [1, 2]
    news = told(replace(finetune, trial=9), setup)
    assert news[0].resumed_epoch == 3
    assert store.exists(predictions_name(9))


@pytest.mark.situation(
    "storage",
    "a checkpoint is of another run (its pretrained model was made anew)",
    "it is deleted and noted, and the trial begins anew",
)
def test_a_checkpoint_of_another_run_is_discarded(setup: Setup, store: Store, finetune: Job) -> None:
    killed_after(2, replace(finetune, seed=2), setup)
    news = told(replace(finetune, attempt=2), setup)
    assert news[0].resumed_epoch == 0
    assert sorted(epochs_of(news)) == [1, 2, 3]
    assert "seed was 2 and is now 1" in result_of(news)["notes"][0]
