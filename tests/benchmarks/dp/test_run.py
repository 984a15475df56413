import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from benchmarks.dp import run
from benchmarks.dp.cases import Case
from benchmarks.dp.contenders import Contender, Kind, Unavailable
from benchmarks.dp.goals import findings
from benchmarks.dp.records import Row, read_csv, write_csv

ROOT = Path(__file__).parents[3]
CPU = torch.device("cpu")
SMALL = ["--functions", "soft_dtw", "--quick", "--sizes", "2,3,4", "--budget", "0.01", "--threads", "1"]


def with_contender(monkeypatch: pytest.MonkeyPatch, kind: Kind, build) -> None:
    monkeypatch.setitem(run.BY_NAME, "torch", Contender("torch", kind, ("soft_dtw",), build))


def wrong(case: Case, device: torch.device):
    from ftcl.dp import soft_dtw

    def values(cost_BNM: Tensor) -> Tensor:
        # The value is right and the gradient is not.
        value_B = soft_dtw(cost_BNM, case.gamma)
        return value_B + 0.1 * (value_B - value_B.detach())

    return values


def broken(case: Case, device: torch.device):
    raise RuntimeError("out of order\nand more")


def absent(case: Case, device: torch.device):
    raise Unavailable("not installed")


def run_small(tmp_path: Path, *contenders: str) -> tuple[int, list[dict[str, str]], dict[str, str]]:
    out = tmp_path / "found.csv"
    status = run.main([*SMALL, "--contenders", *contenders, "--out", str(out)])
    return status, *read_csv(out)


def test_a_run_writes_times_errors_and_what_it_ran_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    status, rows, facts = run_small(tmp_path, "torch", "loops")
    assert status == 0
    assert [row["contender"] for row in rows] == ["torch", "loops"]
    for row in rows:
        assert row["status"] == "ok"
        assert float(row["min_ms"]) <= float(row["median_ms"])
        assert int(row["repetitions"]) >= 3
        assert float(row["gradient_error"]) < 1e-4
    assert facts["torch"] == torch.__version__
    assert {"cpu", "cores", "threads", "revision", "date", "other programs"} <= set(facts)
    assert "reported      soft_dtw 2,3,4" in capsys.readouterr().out


@pytest.mark.parametrize(("kind", "status"), [("ours", 1), ("peer", 0)])
def test_a_wrong_gradient_gets_no_speed(
    kind: Kind,
    status: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    with_contender(monkeypatch, kind, wrong)
    found, (row, other), _ = run_small(tmp_path, "torch", "loops")
    assert found == status
    assert (row["status"], row["reason"]) == ("wrong", "wrong: gradient off by 1.0e-01")
    assert row["median_ms"] == row["min_ms"] == row["repetitions"] == ""
    assert other["median_ms"]
    printed = capsys.readouterr()
    assert "wrong: gradient off by 1.0e-01" in printed.out
    assert ("FAULT" in printed.err) == (status == 1)


@pytest.mark.parametrize(("kind", "status"), [("ours", 1), ("peer", 0)])
def test_a_contender_that_fails_stops_nothing(
    kind: Kind, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with_contender(monkeypatch, kind, broken)
    found, (row, other), _ = run_small(tmp_path, "torch", "loops")
    assert found == status
    assert (row["status"], row["reason"]) == ("failed", "RuntimeError: out of order")
    assert other["status"] == "ok"


def test_an_absent_contender_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with_contender(monkeypatch, "ours", absent)
    found, (row, _), _ = run_small(tmp_path, "torch", "loops")
    assert found == 0
    assert (row["status"], row["reason"]) == ("skipped", "not installed")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--sizes", "16,5"], "three whole numbers"),
        (["--sizes", "16,0,5"], "three whole numbers"),
        (["--functions", "dtw"], "invalid choice"),
        (["--contenders", "numpy"], "invalid choice"),
        (["--threads", "0"], "above 0"),
        (["--budget", "-1"], "--budget"),
    ],
)
def test_bad_options(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_said_plainly(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run.main(["--device", "cuda"])
    assert "no GPU" in capsys.readouterr().err
    command = ["bash", str(ROOT / "benchmarks" / "dp" / "gpu.sh"), "/nonexistent/folder"]
    done = subprocess.run(command, env={"PYTHON": sys.executable, "PATH": "/usr/bin:/bin"}, **_captured())
    assert done.returncode == 2
    assert "gpu.sh needs" in done.stderr


def _captured() -> dict[str, bool]:
    return {"capture_output": True, "text": True, "check": False}


def timed(function: str, contender: str, kind: Kind, median_ms: float, kept: float = 4.0) -> Row:
    gamma = 0.0 if function == "lcs" else 0.1
    row = Row("sizes", function, contender, kind, 16, 512, 512, 0, gamma)
    row.median_ms, row.kept_bytes_per_cell = median_ms, kept
    return row


def verdict(rows: list[Row], goal: str) -> str:
    (found,) = (finding.verdict for finding in findings(rows, CPU) if finding.goal.startswith(goal))
    return found


@pytest.mark.parametrize(("ours_ms", "expected"), [(5.0, "met"), (5.1, "NOT MET")])
def test_goals_are_not_bent(ours_ms: float, expected: str):
    slow_peer = timed("soft_dtw", "tslearn", "peer", 1000.0)
    rows = [
        slow_peer,
        timed("soft_dtw", "pysdtw", "peer", 10.0),
        timed("soft_dtw", "native", "ours", ours_ms),
    ]
    assert verdict(rows, "soft_dtw 16,512,512") == expected
    rows += [timed("lcs", "native", "ours", ours_ms / 10)]
    assert verdict(rows, "lcs 16,512,512") == expected


def test_goals_without_a_right_peer_are_not_measured():
    assert verdict([timed("soft_dtw", "native", "ours", 1.0)], "soft_dtw 16,512,512") == "not measured"


@pytest.mark.parametrize(
    ("kept", "plain", "recomputing"), [(5.0, "met", "met"), (12.1, "NOT MET", "NOT MET")]
)
def test_memory_goals(kept: float, plain: str, recomputing: str):
    rows = [timed("fsd", name, "ours", 1.0, kept) for name in ("native", "native+recompute")]
    assert verdict(rows, "kept for the backward pass: ") == plain
    assert verdict(rows, "kept for the backward pass with") == recomputing


def test_picture_names_its_lines_and_its_machine(tmp_path: Path):
    from benchmarks.dp import plot

    rows = [timed("soft_dtw", "tslearn", "peer", 3.0), timed("soft_dtw", "loops", "loops", 1.0)]
    for row in rows:
        row.section, row.p10_ms, row.p90_ms = "growth", 0.5, 4.0
    rows[1].median_ms = None
    facts = {"cpu": "A processor", "threads": "2", "torch": "2.13", "date": "2026-11-21 14:00 UTC"}
    write_csv(tmp_path / "found.csv", rows, facts)
    plot.draw(tmp_path / "found.csv", tmp_path / "growth.svg")
    text = (tmp_path / "growth.svg").read_text()
    assert "tslearn" in text
    assert "plain torch loops" not in text
    assert "A processor, 2 threads; torch 2.13, 2026-11-21" in text
