"""What the doctor says of one machine, without Ray."""

import io
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

from run_study import main
from study import doctor, inspection
from study.capacity import Cluster, Kind, Node
from study.doctor import Questions, examine


def draw(questions: Questions) -> tuple[bool, str]:
    report = examine(questions)
    console = Console(file=io.StringIO(), width=200)
    console.print(report.render())
    return report.healthy, console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the tests an import of torch in another process."""
    monkeypatch.setattr(inspection, "_GPU_DEVICES", ())


def test_one_machine_is_examined_without_a_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    healthy, drawn = draw(Questions(data="synthetic", out="out", ledger=f"sqlite:///{tmp_path}/ledger.db"))
    assert healthy and "all well" in drawn and "data synthetic" in drawn
    assert list(tmp_path.iterdir()) == []


def test_a_space_asks_for_its_data_and_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").write_text("in the way")
    healthy, drawn = draw(Questions(space="fsd_lcs", data="synthetic"))
    assert not healthy and "✗ storage" in drawn and "studies/fsd_lcs" in drawn


@pytest.mark.parametrize(
    ("questions", "check", "found"),
    [
        (Questions(data="thumos14:/no/such/place"), "data", "/no/such/place"),
        (
            Questions(out="s3://bucket/x?endpoint_override=127.0.0.1:1&scheme=http&region=x"),
            "storage",
            "s3://",
        ),
        (Questions(space="fsd_lcs", data="synthetic", gpus_per_trial=2), "resources", "and 0 GPU"),
        (Questions(ledger="sqlite:////no/such/folder/ledger.db"), "ledger", "/no/such/folder"),
        (Questions(ledger="mysql://there/x"), "ledger", "mysql://there/x"),
        (Questions(ledger="postgresql://u:secret@127.0.0.1:1/x"), "ledger", "postgresql://u@127.0.0.1:1/x"),
    ],
)
def test_what_is_wrong_stands_in_the_table(questions: Questions, check: str, found: str):
    healthy, drawn = draw(questions)
    assert not healthy and f"✗ {check}" in drawn and found in drawn and "→ " in drawn
    assert "secret" not in drawn


def test_a_full_cache_is_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspection, "_cache", lambda: {"folder": "/c", "free": 1e6, "writable": True})
    healthy, drawn = draw(Questions())
    assert healthy and "! disk" in drawn and "XDG_CACHE_HOME" in drawn


def test_gpus_that_torch_cannot_use_are_a_warning(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspection, "gpus", lambda told: {"names": [], "failed": "", "trouble": "too old"})
    healthy, drawn = draw(Questions())
    assert healthy and "! GPUs" in drawn and "too old" in drawn


def test_a_gpu_that_cannot_align_is_an_error(monkeypatch: pytest.MonkeyPatch):
    """Every trial with an alignment would fail there."""
    answer = {"names": ["A10G"], "failed": "fatal error: Python.h: No such file", "trouble": ""}
    monkeypatch.setattr(inspection, "gpus", lambda told: answer)
    healthy, drawn = draw(Questions())
    assert not healthy and "✗ GPUs" in drawn and "Python.h" in drawn and "python3-dev" in drawn


def test_nodes_that_may_come_are_said_not_to_be_examined(monkeypatch: pytest.MonkeyPatch):
    from study.tune import cluster, environment

    idle = Cluster((Node(0, 0),), (Kind("gpu", Node(8, 1), 4),), more=4)
    monkeypatch.setattr(environment, "prepare_environment", lambda address: None)
    monkeypatch.setattr(cluster, "connect", lambda address, local_cpus: nullcontext(idle))
    monkeypatch.setattr(doctor, "examine_nodes", lambda wanted: [])
    healthy, drawn = draw(Questions(address="auto"))
    assert healthy and "up to 4 more may come, and are not looked at" in drawn


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--data", "synthetic"], 0), (["--data", "acm:/no/such/place"], 1), (["--space", "nothing"], 2)],
)
def test_exit_statuses(arguments: list[str], status: int):
    assert main(["doctor", *arguments]) == status
