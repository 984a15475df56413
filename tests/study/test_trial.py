"""One trial in this process: real data, real training, no Ray."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ftcl.data import load_dataset
from study import trial
from study.checkpoints import AttemptCheckpoints, Fenced, checkpoint_folder
from study.job import Job, News, Setup
from study.records import crash_name, curves_folder, details_name, predictions_name
from study.staging import open_data
from study.store import StorageError, Store, open_store
from study.trial import run_trial
from tests.study.pretended import acm_folder
from tests.study.trials import (
    FINETUNE,
    METRIC,
    PRETRAIN,
    Killed,
    epochs_of,
    killed_after,
    make_setup,
    result_of,
    told,
)


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, bytes]:
    """Name and content of an export."""
    out = tmp_path_factory.mktemp("pretrained")
    name = result_of(told(PRETRAIN, make_setup(out)))["export"]
    return name, (out / name).read_bytes()


@pytest.fixture
def setup(tmp_path: Path, pretrained: tuple[str, bytes]) -> Setup:
    """A study with one pretrained model."""
    open_store(tmp_path / "out").write(*pretrained)
    return make_setup(tmp_path / "out")


@pytest.fixture
def store(setup: Setup) -> Store:
    return open_store(setup.out)


@pytest.fixture
def finetune(pretrained: tuple[str, bytes]) -> Job:
    return replace(FINETUNE, init=pretrained[0])


def curves_of(store: Store, trial: int = FINETUNE.trial) -> EventAccumulator:
    assert store.local is not None
    return EventAccumulator(str(store.local / curves_folder(trial))).Reload()


def steps_of(store: Store, trial: int = FINETUNE.trial) -> list[int]:
    return [event.step for event in curves_of(store, trial).Scalars("loss/total")]


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


def test_a_zombie_that_comes_to_its_result_does_not_write_it(
    setup: Setup, store: Store, finetune: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin_next(news: News) -> None:
        if 3 in news.epochs:
            AttemptCheckpoints(store, finetune.run_key, 2, keep=2)

    with pytest.raises(Fenced):
        run_trial(finetune, setup, begin_next)
    assert not store.exists(predictions_name(1))
    assert not store.exists(details_name(1))
    with pytest.raises(Fenced):
        run_trial(replace(PRETRAIN, export_key="late"), setup, _next_begins(store, PRETRAIN, 2))
    assert not any("late" in name for name in store.names("pretrained"))


def _next_begins(store: Store, job: Job, epoch: int) -> Callable[[News], None]:
    def report(news: News) -> None:
        if epoch in news.epochs:
            AttemptCheckpoints(store, job.run_key, 2, keep=2)

    return report


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


def failure_of(news: list[News]) -> tuple[str | None, str]:
    assert news[-1].failure is not None
    return news[-1].kind, news[-1].failure


@pytest.mark.situation(
    "kill",
    "a loss becomes infinite or NaN",
    "the trial has failed and is not run again; the record names the epoch and the loss term",
)
def test_loss_that_blows_up_is_recorded_with_epoch_and_term(setup: Setup, finetune: Job) -> None:
    parameters = {"finetune.epochs": 3, "finetune.learning_rate": 1.0e30}
    kind, message = failure_of(told(replace(finetune, parameters=parameters), setup))
    assert kind == "non_finite"
    assert "loss term '" in message
    assert "is not finite in epoch 1" in message


@pytest.mark.situation(
    "environment",
    "the study's own code raises an error in a trial",
    "the trial has failed and is not run again; the record names the line, and the file with the traceback",
)
def test_error_of_the_code_is_the_trials_failure(
    setup: Setup, store: Store, finetune: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise ZeroDivisionError("no pairs\nleft")

    monkeypatch.setattr(trial, "fit", broken)
    kind, message = failure_of(told(finetune, setup))
    assert kind == "code_error"
    assert message.startswith("ZeroDivisionError: no pairs left (test_trial.py:")
    assert message.endswith("see crashes/1-1.txt")
    assert b"Traceback (most recent call last)" in store.read(crash_name(1, 1))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        pytest.param(
            lambda path: path.unlink(),
            "is gone; restore it, or delete its file",
            marks=pytest.mark.situation(
                "storage",
                "the file of a pretrained model has been deleted",
                "the trials that start from it fail as bad data, and name the file",
            ),
        ),
        pytest.param(
            lambda path: path.write_bytes(path.read_bytes()[:-9] + b"123456789"),
            "is damaged; restore it, or delete its file",
            marks=pytest.mark.situation(
                "storage",
                "the file of a pretrained model is damaged",
                "its digest gives it away, and the trials that start from it fail instead of training on it",
            ),
        ),
    ],
)
def test_a_pretrained_model_is_verified(setup: Setup, finetune: Job, spoil: Any, words: str) -> None:
    path = Path(setup.out) / str(finetune.init)
    spoil(path)
    kind, message = failure_of(told(finetune, setup))
    assert kind == "bad_data"
    assert f"{path} {words}" in message


def spoilt(how: Callable[[Path], object], words: str, what: str, then: str) -> Any:
    return pytest.param(how, words, marks=pytest.mark.situation("input", what, then), id=what)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        spoilt(
            lambda path: path.unlink(),
            "has no feature file",
            "a feature file vanishes while the study runs",
            "the trials that open it try other nodes, then fail and name node and file",
        ),
        spoilt(
            lambda path: path.write_bytes(path.read_bytes()[:-20]),
            "cannot be read as a plain .npy array",
            "a feature file is truncated while the study runs",
            "the trials that open it try other nodes, then fail and name node and file",
        ),
    ],
)
def test_a_node_with_a_spoilt_feature_file_is_unfit(tmp_path: Path, spoil: Any, words: str) -> None:
    folder = acm_folder(tmp_path / "data")
    data = open_data(f"acm:{folder}", fold=0, seed=0, hold_out=False)
    setup = make_setup(tmp_path / "out", data=data.spec, protocol="reference", fingerprint=data.fingerprint)
    spoil(folder / "train" / "train_3.npy")
    kind, message = failure_of(told(PRETRAIN, setup))
    assert kind == "node_unfit"
    assert "train_3" in message
    assert words in message


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "gpu_memory", "2 GiB"),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling"), "gpu_memory", "CUBLAS"),
        (MemoryError(), "host_memory", "could not get more memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "host_memory", "enforce"),
        (OSError(12, "Cannot allocate memory"), "host_memory", "Cannot allocate memory"),
        (OSError(28, "No space left on device", "/out/file"), "disk_full", "/out/file: No space left"),
        (OSError(122, "/out/file: quota exceeded: 2 MB are needed"), "disk_full", "2 MB are needed"),
        (StorageError(5, "it does not answer", "s3://bucket/file"), "storage", "it does not answer"),
        (OSError(5, "Input/output error"), "code_error", "Input/output error"),
        (ValueError("wrong"), "code_error", "ValueError: wrong (test_trial.py:"),
    ],
)
def test_errors_have_their_kind(
    setup: Setup, finetune: Job, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: str, words: str
) -> None:
    def fail(*arguments: Any, **named: Any) -> None:
        raise error

    monkeypatch.setattr(trial, "fit", fail)
    found, message = failure_of(told(finetune, setup))
    assert found == kind
    assert words in message


@pytest.mark.situation(
    "environment",
    "a trial asks for more memory than the process can get",
    "its attempt fails for want of memory and is made again, elsewhere if there is another machine",
)
def test_memory_that_cannot_be_had_is_host_memory(setup: Setup, finetune: Job, monkeypatch: Any) -> None:
    monkeypatch.setattr(trial, "fit", lambda *arguments, **named: torch.empty(2**60))
    kind, _ = failure_of(told(finetune, setup))
    assert kind == "host_memory"


@pytest.mark.situation(
    "storage",
    "the object store stops answering in the middle of a trial",
    "the attempt fails for the storage's sake, and is made again from the last checkpoint",
)
def test_a_store_that_stops_answering_is_storage(
    setup: Setup, finetune: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: Store, name: str, content: object) -> None:
        raise StorageError(5, "it does not answer", self.place(name))

    news: list[News] = []

    def break_after_first(item: News) -> None:
        news.append(item)
        if 1 in item.epochs:
            monkeypatch.setattr(Store, "write", broken)

    run_trial(finetune, setup, break_after_first)
    kind, message = failure_of(news)
    assert kind == "storage"
    assert "checkpoints/finetune/0001-000002" in message
    monkeypatch.undo()
    assert told(replace(finetune, attempt=2), setup)[0].resumed_epoch == 1


@pytest.mark.situation(
    "kill",
    "a trial hangs, or takes longer than resources.<stage>.max_hours",
    "its process ends, the traces of all threads are kept, and the trial goes on from its last epoch",
)
def test_a_trial_that_hangs_ends_its_process_and_leaves_its_traces(tmp_path: Path) -> None:
    script = """
import sys, time
from dataclasses import replace
from ftcl.data import load_dataset
from study import trial
from tests.study.trials import PRETRAIN, make_setup, told
setup = make_setup(sys.argv[1], max_seconds=(60.0, 1.0))
told(PRETRAIN, setup)
print("in time", flush=True)
def hang_in_the_loss(*arguments, **named):
    time.sleep(60)
trial.fit = hang_in_the_loss
told(replace(PRETRAIN, run_key="other", attempt=4), replace(setup, max_seconds=(1.0, None)))
"""
    started_s = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert done.stdout == "in time\n", done.stderr
    assert done.returncode == 1
    assert time.monotonic() - started_s < 50
    trace = (tmp_path / crash_name(0, 4)).read_text()
    assert trace.startswith("Timeout (0:00:01)!")
    assert "in hang_in_the_loss" in trace
    assert sorted(path.name for path in (tmp_path / "crashes").iterdir()) == ["0-4.txt"]


def test_empty_traces_of_killed_attempts_are_removed(setup: Setup, store: Store, finetune: Job) -> None:
    assert store.local is not None
    folder = (store.local / crash_name(1, 1)).parent
    store.write(crash_name(1, 1), b"")  # what SIGKILL leaves
    store.write(crash_name(1, 2), b"Timeout (0:00:01)!")
    store.write(crash_name(11, 1), b"")  # another trial's, which may be running
    seen: list[str] = []
    limited = replace(setup, max_seconds=(None, 600.0))
    run_trial(
        replace(finetune, attempt=3),
        limited,
        lambda news: seen.extend(path.name for path in folder.iterdir()),
    )
    assert set(seen) == {"1-2.txt", "1-3.txt", "11-1.txt"}
    assert sorted(path.name for path in folder.iterdir()) == ["1-2.txt", "11-1.txt"]


def test_a_trace_that_somebody_deleted_is_no_error(setup: Setup, store: Store, finetune: Job) -> None:
    limited = replace(setup, max_seconds=(None, 600.0))
    news: list[News] = []

    def tidy(item: News) -> None:
        news.append(item)
        store.delete_folder("crashes")

    run_trial(finetune, limited, tidy)
    assert result_of(news)


def test_a_dying_process_says_nothing(setup: Setup, finetune: Job) -> None:
    news: list[News] = []

    def die(item: News) -> None:
        news.append(item)
        raise Killed

    with pytest.raises(Killed):
        run_trial(finetune, setup, die)
    assert len(news) == 1
