"""The notebooks, executed on real studies of every kind: finished, without a search, still running."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.analysis import made_up
from tests.study.pretended import SPACE
from tests.study.small_study import run_small_study

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ("ablation", "hyperparameters", "localization")
METRIC = "mAP@0.1:0.7"

# As the shipped spaces of the same names, on less data and for fewer epochs.
FSD_LCS: Mapping[str, Any] = {
    "search": {**SPACE["search"], "early_stopping": {"rungs": [1], "keep": 0.5, "at_least": 1}},
    "ablation": {**SPACE["ablation"], "seeds": 3},
}
TEMPERATURE: Mapping[str, Any] = {
    "search": None,
    "ablation": {
        "seeds": 2,
        "baseline": "cont",
        "arms": {
            "cont": {"finetune.lambda_fsd": 0.0, "finetune.lambda_lcs": 0.0},
            **{
                f"FSD γ={gamma:g}": {"finetune.lambda_lcs": 0.0, "finetune.fsd_gamma": gamma}
                for gamma in (0.0, 0.1, 10.0)
            },
        },
        "families": [
            {"name": "smooth", "metric": METRIC, "arms": ["FSD γ=0.1", "FSD γ=10"], "against": "FSD γ=0"}
        ],
    },
}
PRETRAIN: Mapping[str, Any] = {
    "recipe": "acmnet",
    "fixed": {"pretrain.epochs": 3},
    "search": None,
    "ablation": {
        "seeds": 2,
        "baseline": "default",
        "arms": {"default": {}, "no guide": {"acmnet.lambda_guide": 0.0}},
        "families": [{"name": "terms", "metric": METRIC, "arms": ["no guide"], "against": "default"}],
    },
    "gate": {"metric": METRIC, "at_least": 1.0},
}


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of studies."""
    folder = tmp_path_factory.mktemp("studies")
    for name, space in (("fsd_lcs", FSD_LCS), ("temperature", TEMPERATURE), ("pretrain", PRETRAIN)):
        run_small_study(folder / name, **space)
    values = {"acmnet": [1.0, "running"], "cont": [2.0, "running"], "FSD+LCS": ["waiting", "running"]}
    made_up.write_study(folder / "running", values, finished=False)
    return folder


def execute(name: str, **paths: Path) -> list[Mapping[str, Any]]:
    """Run a notebook from its first cell to its last, and return what its cells have put out."""
    notebook = nbformat.read(ROOT / f"analysis/notebooks/{name}.ipynb", as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        for variable, path in paths.items():
            patch.setenv(variable, str(path))
        patch.setenv("PYTHONPATH", str(ROOT))
        folder = {"metadata": {"path": str(ROOT / "analysis/notebooks")}}
        NotebookClient(notebook, timeout=200, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert not [output for output in outputs if output.get("name") == "stderr"]
    return outputs


def text(outputs: list[Mapping[str, Any]]) -> str:
    parts = []
    for output in outputs:
        data = output.get("data", {})
        parts.append(output.get("text") or data.get("text/html") or data.get("text/markdown") or "")
    return "\n".join(parts)


def pictures(outputs: list[Mapping[str, Any]]) -> list[bytes]:
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', text(outputs))
    return [base64.b64decode(content) for content in found]


def test_ablation_notebook_reads_a_study_and_the_gate(studies: Path) -> None:
    outputs = execute("ablation", STUDY=studies / "fsd_lcs", PRETRAIN=studies / "pretrain")
    shown = text(outputs)
    assert "Nothing to show here" not in shown
    assert "FSD+LCS" in shown and "over 3 seeds" in shown
    assert "mAP@0.1:0.7 of the models of all arms at least 1 on validation" in shown
    assert "ungated" in shown and "Pretraining: pretrain on synthetic" in shown
    assert len(pictures(outputs)) >= 3
    assert all(picture.startswith(b"\x89PNG") for picture in pictures(outputs))


def test_hyperparameter_notebook_reads_a_search_and_a_grid(studies: Path) -> None:
    outputs = execute("hyperparameters", STUDY=studies / "fsd_lcs", TEMPERATURE=studies / "temperature")
    shown = text(outputs)
    assert "lambda_lcs" in shown and "Sensitivity to one setting" in shown and "FSD γ=10" in shown
    assert len(pictures(outputs)) >= 6


def test_localization_notebook_looks_at_videos(studies: Path) -> None:
    outputs = execute("localization", STUDY=studies / "fsd_lcs")
    shown = text(outputs)
    assert "Timeline of" in shown and "localisation" in shown and "LCS of" in shown
    assert len(pictures(outputs)) >= 6


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_on_a_study_of_one_stage_without_a_search(name: str, studies: Path) -> None:
    paths = {"PRETRAIN": studies / "pretrain", "TEMPERATURE": studies / "no"}
    outputs = execute(name, STUDY=studies / "pretrain", **paths)
    if name == "hyperparameters":
        assert "this study searches no settings" in text(outputs)
        assert "`python run_study.py --space temperature` makes it" in text(outputs)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_on_a_study_that_is_still_running(name: str, studies: Path) -> None:
    outputs = execute(name, STUDY=studies / "running", PRETRAIN=studies / "no", TEMPERATURE=studies / "no")
    assert "Nothing to show here" in text(outputs)
    if name != "localization":
        assert "still running" in text(outputs)
