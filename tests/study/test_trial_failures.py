"""Why a trial failed: the kind and the words that its last news carry."""

import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from study import fitness, inspection, trial
from study.job import Job, News, Setup
from study.records import crash_name
from study.staging import open_data
from study.store import StorageError, Store
from study.trial import run_trial
from tests.study.pretended import acm_folder
from tests.study.trials import PRETRAIN, Killed, make_setup, told

VERSION = torch.__version__.partition("+")[0]


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
    assert message.startswith("ZeroDivisionError: no pairs left (test_trial_failures.py:")
    assert message.endswith("see crashes/1-1.txt")
    assert b"Traceback (most recent call last)" in store.read(crash_name(1, 1))


def test_failure_is_told_with_the_epochs_before_it(
    setup: Setup, finetune: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_epoch = trial.Curves.add_epoch

    def breaks_in_the_third(curves: trial.Curves, record: Any) -> None:
        if record.epoch == 3:
            raise ZeroDivisionError
        add_epoch(curves, record)

    monkeypatch.setattr(trial.Curves, "add_epoch", breaks_in_the_third)
    (news,) = told(finetune, replace(setup, report_every_s=1e9))
    assert news.kind == "code_error"
    assert sorted(news.epochs) == [1, 2, 3]


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


@pytest.mark.situation(
    "environment",
    "Ray counts a GPU on a machine where torch sees none (a driver that fails, torch's build for CPUs)",
    "no trial that was granted a GPU trains on the CPU there: it goes on elsewhere, and the record says why",
)
@pytest.mark.parametrize(
    ("device", "gpus", "kind"),
    [("cpu", 1.0, "node_unfit"), ("cpu", 0.25, "node_unfit"), ("cpu", 0.0, None), ("mps", 1.0, None)],
)
def test_trial_that_was_granted_a_gpu_trains_on_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, gpus: float, kind: str | None
) -> None:
    monkeypatch.setattr(fitness, "choose_device", lambda: torch.device(device))
    news = told(PRETRAIN, make_setup(tmp_path, gpus=(gpus, 0.0)))
    assert news[-1].kind == kind
    if kind is not None:
        assert news[-1].epochs == {}
        message = failure_of(news)[1]
        for words in (socket.gethostname(), "torch sees none", "nvidia-smi", "--gpus-per-trial 0"):
            assert words in message
    else:
        assert news[-1].result is not None


def changed(what: str, name: str, value: str | None) -> dict[str, Any]:
    there = fitness.software()
    return {**there, what: {**there[what], name: value}}


@pytest.mark.situation(
    "environment",
    "a machine that joins after the launch has other code than the driver, or another Python, Ray or torch",
    "its workers train nothing: the record names what differs, and the trial goes on elsewhere",
)
@pytest.mark.parametrize(
    ("what", "name", "value", "words"),
    [
        ("source", "study/trial.py", "other", "other code than here: study/trial.py; "),
        ("source", "study/only_there.py", "new", "other code than here: study/only_there.py; "),
        ("versions", "ray", "1.0", "here 1.0; install what constraints.txt says"),
        ("versions", "python", "3.10.1", "here 3.10.1"),
    ],
)
def test_trial_runs_with_the_code_of_its_driver_alone(
    tmp_path: Path, what: str, name: str, value: str, words: str
) -> None:
    launched = changed(what, name, value)
    kind, message = failure_of(told(PRETRAIN, make_setup(tmp_path, software=launched)))
    assert kind == "node_unfit"
    assert message.startswith(f"{socket.gethostname()} is not as the study was launched: ")
    assert words in message


@pytest.mark.parametrize(
    "launched",
    [
        pytest.param(lambda: {}, id="not known"),
        pytest.param(lambda: dict(fitness.software()), id="the same"),
        pytest.param(lambda: changed("versions", "torch", f"{VERSION}+other"), id="another build"),
        pytest.param(
            lambda: changed("versions", "tensorboard", "0.1"), id="a version that changes no number"
        ),
    ],
)
def test_software_that_makes_the_same_numbers_will_do(launched: Callable[[], Any]) -> None:
    assert fitness.other_software(launched()) is None


def test_code_is_read_once_by_each_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has loaded its code before somebody edits it goes on with that."""
    launched = dict(fitness.software())
    monkeypatch.setattr(inspection, "source", lambda: {"study/trial.py": "edited"})
    assert fitness.other_software(launched) is None
    assert "has changed since this study was launched: " in str(fitness.changed_code())


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
        (ValueError("wrong"), "code_error", "ValueError: wrong (test_trial_failures.py:"),
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


def test_a_dying_process_says_nothing(setup: Setup, finetune: Job) -> None:
    news: list[News] = []

    def die(item: News) -> None:
        news.append(item)
        raise Killed

    with pytest.raises(Killed):
        run_trial(finetune, setup, die)
    assert len(news) == 1
