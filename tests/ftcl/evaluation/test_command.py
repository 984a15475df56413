import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ftcl.evaluation.__main__ import main

REPOSITORY = Path(__file__).parents[3]


def annotated(subset, *segments):
    return {
        "subset": subset,
        "annotations": [{"segment": [s, e], "label": label} for s, e, label in segments],
    }


@pytest.fixture
def files(tmp_path):
    truth = {
        "a": annotated("test", (0, 10, "run")),
        "b": annotated("test", (0, 10, "walk"), (20, 30, "walk")),
        "c": annotated("train", (0, 10, "swim")),
    }
    found = {
        "a": [{"label": "run", "segment": [0, 8], "score": 0.9}],
        "b": [{"label": "walk", "segment": [20, 30], "score": 0.5}],
    }
    (tmp_path / "truth.json").write_text(json.dumps({"database": truth}))
    (tmp_path / "found.json").write_text(json.dumps({"results": found}))
    (tmp_path / "videos.txt").write_text("b\n\n")
    (tmp_path / "wrong.txt").write_text("b\nz\n")
    (tmp_path / "empty.txt").write_text("\n")
    return tmp_path


def run(files, *options, truth="truth.json", found="found.json"):
    return main([str(files / truth), str(files / found), *options])


def test_prints_a_table(files, capsys):
    assert run(files) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = printed.out.splitlines()
    assert lines[0] == "subset test: 2 videos, 2 classes, 3 segments, 2 predictions"
    # run is right up to tIoU 0.8; one of two walks is found at every threshold.
    assert "mAP@0.8        75.00" in lines
    assert "mAP@0.9        25.00" in lines
    assert lines[-1] == "mAP@0.1:0.9    69.44"


def test_prints_json_of_chosen_thresholds(files, capsys):
    assert run(files, "--json", "--tiou", "0.5,0.9") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["metrics"] == {"mAP@0.5": 75.0, "mAP@0.9": 25.0}
    assert printed["tiou_thresholds"] == [0.5, 0.9]
    assert printed["average_precision"] == {"run": [100.0, 0.0], "walk": [50.0, 50.0]}
    assert printed["num_segments"] == {"run": 1, "walk": 2}


def test_a_range_of_thresholds_includes_its_end(files, capsys):
    assert run(files, "--json", "--tiou", "0.3:0.7:0.1") == 0
    assert list(json.loads(capsys.readouterr().out)["metrics"])[-2:] == ["mAP@0.7", "mAP@0.3:0.7"]
    assert run(files, "--json", "--tiou", "0.9:1:0.05") == 0
    assert json.loads(capsys.readouterr().out)["tiou_thresholds"] == pytest.approx([0.9, 0.95, 1.0])


def test_counts_only_the_listed_videos(files, capsys):
    assert run(files, "--json", "--tiou", "0.5", "--videos", str(files / "videos.txt")) == 0
    assert json.loads(capsys.readouterr().out)["average_precision"] == {"walk": [50.0]}


def test_notes_predictions_in_other_videos(files, capsys):
    assert run(files, "--subset", "train") == 0
    assert "2 predictions are in videos that the subset does not hold" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--subset", "val"], "no video has subset 'val'; choose one of: test, train"),
        (["--videos", "wrong.txt"], "not in the ground truth, first 'z'"),
        (["--videos", "empty.txt"], "names no video"),
        (["--videos", "absent.txt"], "cannot be read"),
    ],
)
def test_wrong_input_is_one_line_and_exit_code_2(files, monkeypatch, capsys, options, message):
    monkeypatch.chdir(files)
    assert run(files, *options) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize("name", ["truth", "found"])
@pytest.mark.parametrize(
    ("segment", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("[" * 500 + "]" * 500, '"segment" must be'),
        (f"[0, 1{'0' * 400}]", "must be a number that fits a double"),
        ("[false, true]", "must be a number, got False"),
    ],
    ids=["lists", "objects", "closed lists", "401 digits", "booleans"],
)
def test_hostile_json_is_one_short_line_and_exit_code_2(files, capsys, name, segment, message):
    truth = '{"database": {"a": {"subset": "test", "annotations": [{"label": "run", "segment": %s}]}}}'
    found = '{"results": {"a": [{"label": "run", "score": 1, "segment": %s}]}}'
    (files / "hostile.json").write_text({"truth": truth, "found": found}[name] % segment)
    assert run(files, **{name: "hostile.json"}) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert len(printed.err) < 400


@pytest.mark.parametrize(
    "options", [["--tiou", "0.1:0.9"], ["--tiou", "0,1"], ["--tiou", "0.9:0.1:0.1"], ["--tioux", "1"]]
)
def test_wrong_usage_is_one_line_and_exit_code_2(files, capsys, options):
    with pytest.raises(SystemExit) as caught:
        run(files, *options)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert options[0] in error


def test_runs_as_a_module_without_torch(files):
    code = (
        "import runpy, sys\n"
        "sys.argv = ['evaluation', 'truth.json', 'found.json', '--json', '--tiou', '0.5']\n"
        "try:\n    runpy.run_module('ftcl.evaluation', run_name='__main__')\n"
        "except SystemExit as end:\n    assert end.code == 0\n"
        "assert not {'torch', 'pandas', 'scipy'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=files,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["metrics"] == {"mAP@0.5": 75.0}
