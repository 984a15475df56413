"""`python -m ftcl` from end to end on the synthetic data."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ftcl.__main__ import main
from ftcl.training import read_chosen

QUICK = [
    "--set",
    "pretrain.epochs=2",
    "--set",
    "finetune.epochs=2",
    "--set",
    "num_pairs=4",
    "--set",
    "width=8",
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def use_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


@pytest.fixture(scope="module")
def run(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        assert main([*train_command(out), *QUICK]) == 0
    return out


def train_command(out: Path, recipe: str = "ftcl") -> list[str]:
    return ["train", "--recipe", recipe, "--data", "synthetic", "--device", "cpu", "--out", str(out)]


def evaluate_command(checkpoint: Path, *more: str, recipe: str = "ftcl") -> list[str]:
    command = ["evaluate", "--recipe", recipe, "--data", "synthetic", "--device", "cpu"]
    return [*command, "--checkpoint", str(checkpoint), *more]


def test_a_run_leaves_checkpoints_metrics_and_predictions(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == {
        "pretrain.pt",
        "finetune.pt",
        "metrics.json",
        "predictions.json",
    }
    report = json.loads((run / "metrics.json").read_text())
    assert report["chosen_epochs"]["pretrain"] == 2
    assert report["chosen_epochs"]["finetune"] in (1, 2)
    assert 0 <= report["metrics"]["mAP@0.1:0.7"] <= 100
    assert report["config"]["finetune.num_pairs"] == 4
    assert json.loads((run / "predictions.json").read_text())["results"]


def test_the_same_command_again_trains_nothing_and_reports_the_same(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    assert main([*train_command(run), *QUICK]) == 0
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert capsys.readouterr().out.count("(from the checkpoint)") == 4


@pytest.mark.situation(
    "input",
    "`python -m ftcl train` is given the folder of a run with other settings",
    "nothing is overwritten; the message says what differs",
)
def test_a_folder_of_another_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*train_command(run), *QUICK, "--seed", "1"]) == 2
    assert "seed was 0 and is now 1" in capsys.readouterr().err


def test_a_pretrained_model_replaces_the_first_stage(run: Path, tmp_path: Path) -> None:
    released = tmp_path / "released.pth"
    torch.save({"model_state_dict": read_chosen(run / "pretrain.pt").weights}, released)
    for name, pretrained in (("ours", run / "pretrain.pt"), ("theirs", released)):
        out = tmp_path / name
        # The network of our own checkpoint is known, that of another file is not.
        width = [] if name == "ours" else QUICK[6:]
        command = [*train_command(out), *QUICK[2:6], *width, "--pretrained", str(pretrained)]
        assert main(command) == 0
        assert not (out / "pretrain.pt").exists()
        assert (out / "predictions.json").read_bytes() == (run / "predictions.json").read_bytes()
        report = json.loads((out / "metrics.json").read_text())
        assert report["pretrained"] == str(pretrained)
        assert report["config"]["acmnet.width"] == 8


def test_a_pretrained_model_needs_a_stage_to_train(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*train_command(out, "acmnet"), "--pretrained", str(run / "pretrain.pt")]) == 2
    assert "recipe acmnet has no other" in capsys.readouterr().err
    assert main([*train_command(out), "--pretrained", str(tmp_path / "none.pt")]) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    assert main([*train_command(out), "--pretrained", str(run / "pretrain.pt"), "--set", "width=9"]) == 2
    assert "set acmnet.width=8" in capsys.readouterr().err
    assert not out.exists()


def test_evaluate_repeats_the_predictions_of_train(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "predictions.json"
    command = evaluate_command(run / "finetune.pt", "--out", str(out))
    assert main(command) == 0
    assert out.read_bytes() == (run / "predictions.json").read_bytes()
    assert "finetune.pt was trained with" in capsys.readouterr().out


def test_evaluate_takes_the_settings_of_the_checkpoint_under_those_of_the_user(
    run: Path, tmp_path: Path
) -> None:
    changed = ["--set", "num_snippets=30", "--set", "localization.upsampling=7"]
    trained = tmp_path / "run"
    assert main([*train_command(trained), *QUICK, *changed]) == 0
    wanted = (trained / "predictions.json").read_bytes()
    out = tmp_path / "predictions.json"
    command = evaluate_command(trained / "finetune.pt", "--out", str(out))
    assert main(command) == 0
    assert out.read_bytes() == wanted
    assert main([*command, "--set", "upsampling=20"]) == 0
    assert out.read_bytes() != wanted


@pytest.mark.parametrize("first_layer", ["feature_embedding.0.", "feature_embedding.1."])
@pytest.mark.parametrize("recipe", ["acmnet", "ftcl"])
def test_checkpoints_in_the_authors_layout_are_evaluated(
    run: Path, tmp_path: Path, first_layer: str, recipe: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {
        name.replace("feature_embedding.0.", first_layer): value
        for name, value in read_chosen(run / "finetune.pt").weights.items()
    }
    path, out = tmp_path / "released.pth", tmp_path / "predictions.json"
    torch.save({"epoch": 7, "model_state_dict": weights}, path)
    command = evaluate_command(path, "--out", str(out), "--set", "width=8", recipe=recipe)
    assert main(command) == 0
    assert out.read_bytes() == (run / "predictions.json").read_bytes()
    assert "the preset synthetic" in capsys.readouterr().out


def test_the_protocol_changes_the_predictions(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "predictions.json"
    command = evaluate_command(run / "finetune.pt", "--out", str(out))
    assert main([*command, "--protocol", "reference"]) == 0
    assert out.read_bytes() != (run / "predictions.json").read_bytes()


def test_the_reference_protocol_chooses_on_test(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*train_command(tmp_path, "acmnet"), *QUICK[:2], "--protocol", "reference"]) == 0
    printed = capsys.readouterr().out
    assert "test mAP@0.1:0.7" in printed
    assert "chosen on the test split" in printed


@pytest.mark.usefixtures("run")  # which fills the cache
def test_the_reference_protocol_holds_no_video_out(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(next((cache / "ftcl").glob("synthetic-*")), folder)
    (folder / "split_validation.txt").unlink()
    arguments = ["--recipe", "acmnet", "--data", f"acm:{folder}", "--set", "num_snippets=40"]
    train = ["train", *arguments, "--out", str(tmp_path / "run"), *QUICK[:2], *QUICK[-2:]]
    assert main([*train, "--protocol", "reference"]) == 0
    evaluate = ["evaluate", *arguments, "--checkpoint", str(tmp_path / "run" / "pretrain.pt")]
    assert main([*evaluate, "--split", "train", "--protocol", "reference"]) == 0
    assert "train, 24 videos" in capsys.readouterr().out
    assert main([*evaluate, "--split", "validation", "--protocol", "reference"]) == 2
    assert "validation split" in capsys.readouterr().err
    assert main([*evaluate, "--split", "validation"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "lamda_fsd=1"], "did you mean finetune.lambda_fsd"),
        (["--set", "lambda_fsd"], "write NAME=VALUE"),
        (["--set", "lambda_fsd=-1"], "out of range"),
        (["--set", "lambda_fsd=1", "--set", "finetune.lambda_fsd=2"], "given twice"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "acm:/does/not/exist"], "/does/not/exist"),
        (["--fold", "3"], "fold 3"),
        (["--set", "lcs_len=41"], "finetune.lcs_len = 41 needs 41 snippets"),
    ],
)
def test_wrong_usage_leaves_nothing_behind(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main([*train_command(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize("arguments", [[], ["train"], ["train", "--recipe", "none"], ["fly"]])
def test_wrong_commands_exit_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "--help" in capsys.readouterr().err


def test_output_below_a_file_is_wrong_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(train_command(tmp_path / "file" / "run")) == 2
    assert "cannot write" in capsys.readouterr().err


def test_a_folder_cannot_hold_detections(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    assert main(evaluate_command(run / "finetune.pt", "--out", ".")) == 2
    said = capsys.readouterr()
    assert "is a folder" in said.err
    assert not said.out


@pytest.mark.parametrize(("command", "continues"), [("train", True), ("evaluate", False)])
def test_only_training_promises_to_continue(
    command: str,
    continues: bool,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ftcl.cli.load_dataset", interrupt)
    commands = {"train": train_command(tmp_path / "run"), "evaluate": evaluate_command(run / "finetune.pt")}
    assert main(commands[command]) == 130
    error = capsys.readouterr().err
    assert error.startswith("interrupted")
    assert ("the same command continues" in error) == continues


def test_a_warning_takes_one_line(
    run: Path, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(next((cache / "ftcl").glob("synthetic-*")), folder)
    annotations = json.loads((folder / "gt.json").read_text())
    annotations["database"]["test_00"]["annotations"][0]["segment"][1] = 1e3
    (folder / "gt.json").write_text(json.dumps(annotations))
    command = ["evaluate", "--recipe", "ftcl", "--data", f"acm:{folder}", "--device", "cpu"]
    assert main([*command, "--checkpoint", str(run / "finetune.pt")]) == 0
    error = capsys.readouterr().err
    assert error.startswith("warning: ") and "1 segments end after their video" in error
    assert error.count("\n") == 1


def test_a_checkpoint_of_another_shape_names_the_option(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(evaluate_command(run / "finetune.pt", "--set", "width=9")) == 2
    error = capsys.readouterr().err
    assert "'feature_embedding.0.weight' of shape (8, 16, 3), the network expects (9, 16, 3)" in error
    assert "set acmnet.width=8" in error

    weights = dict(read_chosen(run / "finetune.pt").weights)
    for key, shape, advice in (
        ("feature_embedding.0.weight", (8, 20, 3), "features of 20 channels"),
        ("snippet_cls.weight", (21, 8), "trained on 20 classes"),
        ("feature_trans.weight", (6, 8), "set finetune.fsd_width=6"),
    ):
        path = tmp_path / "other.pth"
        torch.save({"model_state_dict": {**weights, key: torch.zeros(shape)}}, path)
        assert main(evaluate_command(path, "--set", "width=8")) == 2
        error = capsys.readouterr().err
        assert repr(key) in error
        assert advice in error


def test_missing_and_foreign_checkpoints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(evaluate_command(tmp_path / "none.pt")) == 2
    assert "there is no checkpoint" in capsys.readouterr().err
    (tmp_path / "text.pt").write_text("hello")
    assert main(evaluate_command(tmp_path / "text.pt")) == 2
    assert "not a readable checkpoint" in capsys.readouterr().err
    for content in ({"model_state_dict": [1]}, {"model_state_dict": {"w": 1}}, {"weights": 1}):
        torch.save(content, tmp_path / "odd.pt")
        assert main(evaluate_command(tmp_path / "odd.pt")) == 2
        error = capsys.readouterr().err
        assert "odd.pt" in error
        assert error.count("\n") == 1


def test_a_failing_training_exits_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = train_command(tmp_path / "run", "acmnet")
    assert main([*command, "--set", "pretrain.learning_rate=1e30"]) == 1
    assert "not finite in epoch" in capsys.readouterr().err


def test_an_interrupted_run_exits_with_130_and_continues(tmp_path: Path, cache: Path) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "ftcl", *train_command(out, "acmnet")]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    with subprocess.Popen(
        [*command, "--set", "pretrain.epochs=100000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as running:
        assert running.stdout is not None
        while "pretrain      1/" not in (line := running.stdout.readline()):
            assert line, running.stderr.read() if running.stderr else ""
        running.send_signal(signal.SIGINT)
        _, error = running.communicate(timeout=60)
    assert running.returncode == 130
    assert "the same command continues" in error
    finished = len(torch.load(out / "pretrain.pt", weights_only=True)["history"])
    more = ["--set", f"pretrain.epochs={finished + 1}"]
    assert main([*train_command(out, "acmnet"), *more]) == 0
    assert json.loads((out / "metrics.json").read_text())["chosen_epochs"]["pretrain"] == finished + 1


def test_help_names_every_data_set_and_parameter(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["train", "--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    for word in ("watch", "thumos14:DIR", "finetune.lambda_fsd", "130 interrupted"):
        assert word in printed
