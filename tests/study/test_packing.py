"""Trials per GPU from what one takes; the measurement with a pretended GPU, and with a real process."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from study.capacity import Node
from study.job import Job, Setup
from study.packing import Packing, Probe, hold_in_process, make_probe, measure
from study.plan import LaunchError, Plan
from study.spec import Resources
from tests.study.trials import PRETRAIN, make_setup

GB = 10**9


class PretendedGpu:
    name, total = "L4", 24 * GB

    def __init__(self, others: int = GB) -> None:
        self.used = others

    def free(self) -> int:
        return self.total - self.used


def packing(pretrain: int = 4 * GB, finetune: int = 3 * GB, free: int = 23 * GB) -> Packing:
    return Packing("L4", 24 * GB, free, {"pretrain": pretrain, "finetune": finetune})


def resources(cpus: int = 1) -> dict[str, Resources]:
    return {"pretrain": Resources(cpus=cpus), "finetune": Resources(cpus=cpus)}


@pytest.mark.parametrize(
    ("found", "cpus_per_gpu", "cpus", "trials"),
    [
        (packing(finetune=3 * GB), 64, 1, 7),  # 23 GB less a reserve of 1.2 GB
        (packing(finetune=22 * GB), 64, 1, 0),
        (packing(finetune=3 * GB), 4, 1, 4),
        (packing(finetune=3 * GB), 4, 3, 1),
        (packing(finetune=0), 8, 1, 8),
    ],
)
def test_trials_that_fit(found: Packing, cpus_per_gpu: float, cpus: int, trials: int) -> None:
    assert found.trials("finetune", cpus_per_gpu, cpus) == trials


@pytest.mark.parametrize("trials", range(1, 65))
def test_as_many_shares_fit_as_were_counted(trials: int) -> None:
    found = packing(finetune=int(21.8 * GB / trials) - 1)
    share = found.shares(resources(), 64)["finetune"]
    assert Node(64, 1).holds(Resources(cpus=1, gpus=share)) == trials


def test_trial_that_fits_only_without_the_reserve_runs_alone() -> None:
    assert packing(pretrain=int(22.5 * GB)).shares(resources(), 8)["pretrain"] == 1.0


@pytest.mark.situation(
    "environment",
    "--gpus-per-trial auto finds that not even one trial fits a GPU's memory",
    "refused before the first trial, with what it takes and what is free",
)
def test_trial_that_does_not_fit_is_refused_with_the_numbers() -> None:
    with pytest.raises(LaunchError, match=r"one pretrain trial takes 23.5 GB, and the L4 has 23.0 GB free"):
        packing(pretrain=int(23.5 * GB)).shares(resources(), 8)


def test_each_stage_is_measured_after_the_one_before(tmp_path: Path) -> None:
    gpu, seen = PretendedGpu(), []

    def hold(job: Job, setup: Setup, read: Callable[[], int]) -> tuple[int, str | None]:
        seen.append((job, setup))
        taken = (4 * GB, 3 * GB)[job.stage]
        gpu.used += taken
        held = read()
        gpu.used -= taken
        return held, f"export-{job.stage}" if job.export_key else None

    found = measure(Probe(make_setup(tmp_path), {"finetune.epochs": 1}), gpu, hold)
    assert found == packing()
    (first, setup), (second, _) = seen
    assert (first.stage, first.init, first.test) == (0, None, False)
    assert (second.stage, second.init, second.test) == (1, "export-0", True)
    assert setup.out != str(tmp_path) and not Path(setup.out).exists()
    assert str(found) == (
        "L4 with 24.0 GB, 23.0 GB free: one pretrain trial takes 4.0 GB, one finetune trial takes 3.0 GB"
    )


def test_settings_are_as_large_as_they_can_become(make_small_plan: Callable[..., Plan]) -> None:
    arms = {
        "full": {},
        "longer": {"finetune.lcs_len": 30},
        "longer still": {"finetune.lcs_len": 35, "finetune.lambda_fsd": 0.0},
    }
    plan = make_small_plan({"ablation": {"seeds": 1, "baseline": "full", "arms": arms}})
    probe = make_probe(plan, make_setup(plan.out))
    assert probe.parameters["finetune.fsd_len"] == 6  # the upper end of its range
    assert probe.parameters["finetune.lcs_len"] == 35
    assert "finetune.lambda_fsd" not in probe.parameters  # its default is larger
    assert probe.parameters["finetune.epochs"] == probe.parameters["pretrain.epochs"] == 1


def test_a_trial_is_held_until_it_has_been_read(tmp_path: Path) -> None:
    job = replace(PRETRAIN, parameters={"pretrain.epochs": 1})
    alive: list[bool] = []

    def read() -> int:
        alive.append(runs_packing())
        return 7

    held, export = hold_in_process(job, make_setup(tmp_path), read)
    assert (held, alive) == (7, [True])
    assert export is not None and (tmp_path / export).exists()
    assert not runs_packing()


def runs_packing() -> bool:
    return any("study.packing" in child.cmdline() for child in psutil.Process().children())


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "import torch_is_missing",
            "its process ended: ModuleNotFoundError: No module named 'torch_is_missing'",
        ),
        ('print(\'{"failure": "CUDA out of memory", "export": null}\')', ": CUDA out of memory; give"),
    ],
    ids=["dies", "fails"],
)
def test_a_trial_that_ends_badly_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    let_trials_run(script, tmp_path, monkeypatch)
    with pytest.raises(LaunchError, match="cannot measure a pretrain trial on the GPU") as told:
        hold_in_process(PRETRAIN, make_setup(tmp_path), lambda: 0)
    assert words in str(told.value)


def test_a_trial_that_takes_too_long_is_told_past_its_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "import sys, time; print('a warning', file=sys.stderr, flush=True); time.sleep(60)"
    let_trials_run(script, tmp_path, monkeypatch)
    monkeypatch.setattr("study.packing._STAGE_LIMIT_S", 1.0)
    with pytest.raises(LaunchError, match="its first epoch took more than 1 s"):
        hold_in_process(PRETRAIN, make_setup(tmp_path), lambda: 0)


def let_trials_run(script: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr("study.packing.sys.executable", str(program))
