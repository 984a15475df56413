"""What TensorBoard's own readers find in a study's folder."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler

from analysis.load import load_study
from analysis.tensorboard import main, show_tensorboard, write_tensorboard
from ftcl.training.fit import EpochRecord
from study.curves import Curves
from study.records import curves_folder, open_store, write_tables
from study.rows import Cell, Row
from tests.analysis import made_up
from tests.analysis.localization import looked_at

METRIC = looked_at.HEADLINE


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return looked_at.write(tmp_path / "out")


def test_the_hparams_tab_has_the_settings_and_final_metrics_of_all_trials(out: Path) -> None:
    store = open_store(out)
    cells = (
        (Cell("search", "pretrain", 1, pretrain_key="k"), {}, {}),
        (Cell("search", "finetune", 1, proposal=0), {"finetune.lambda_lcs": 0.3}, {}),
        (Cell("ablation", "finetune", 2, "FSD+LCS"), {"finetune.lambda_lcs": 0.1}, {f"test/{METRIC}": 40.0}),
        (
            Cell("ablation", "finetune", 2, "shuffled"),
            {"finetune.candidate_order": "shuffled"},
            {f"test/{METRIC}": 35.0},
        ),
    )
    rows = []
    for trial, (cell, settings, test) in enumerate(cells):
        metrics = {f"validation/{METRIC}": 50.0 + trial, **test}
        tags = {
            name: value for name, value in vars(cell).items() if value is not None and name != "pretrain_key"
        }
        with Curves(store, curves_folder(trial), ".run.0001") as curves:
            curves.add_epoch(EpochRecord(1, {"loss/total": 1.0}, seconds=0.0, replayed=False))
            curves.add_settings({**tags, **settings}, metrics)
            curves.flush()
        rows.append(
            Row(
                trial,
                cell,
                settings,
                "complete",
                made_up.STARTED_AT,
                made_up.STARTED_AT,
                result={"metrics": metrics},
            )
        )
    write_tables(store, rows)
    write_tensorboard(load_study(out))

    columns, sessions = hparams(out)
    assert {info.name for info in columns.hparam_infos} == {
        *("phase", "stage", "arm", "proposal", "seed", "finetune.lambda_lcs", "finetune.candidate_order")
    }
    assert {info.name for info in columns.hparam_infos if info.differs} >= {"arm", "finetune.lambda_lcs"}
    assert [info.name.tag for info in columns.metric_infos] == [
        f"final/{split}/{METRIC}" for split in ("validation", "test")
    ]
    found = {
        session.name: (
            session.hparams["arm"].string_value,
            {value.name.tag: value.value for value in session.metric_values},
        )
        for session in sessions
    }
    assert found["tensorboard/3"] == (
        "shuffled",
        {f"final/validation/{METRIC}": 53.0, f"final/test/{METRIC}": 35.0},
    )
    assert found["tensorboard/0"] == ("", {f"final/validation/{METRIC}": 50.0})
    assert len(found) == 4


def hparams(out: Path) -> tuple[api_pb2.Experiment, list[api_pb2.SessionGroup]]:
    """What TensorBoard's plugin shows of a log directory."""
    runs = EventMultiplexer().AddRunsFromDirectory(str(out))
    runs.Reload()
    provider = MultiplexerDataProvider(runs, str(out))
    plugin, request = Context(TBContext(data_provider=provider, multiplexer=runs)), context.RequestContext()
    listed = plugin.hparams_from_data_provider(request, "", limit=0)
    columns = plugin.experiment_from_metadata(request, "", True, plugin.hparams_metadata(request, ""), listed)
    asked = api_pb2.ListSessionGroupsRequest(slice_size=100, allowed_statuses=[0, 1, 2, 3])
    for info in columns.metric_infos:
        asked.col_params.add(metric=info.name)
    return columns, list(Handler(request, plugin, "", asked).run().session_groups)


def test_figures_lie_beside_the_curves_and_are_replaced_when_written_again(out: Path) -> None:
    folder = out / curves_folder(looked_at.trials(out)["cont", 0])
    folder.mkdir(parents=True)
    curves = folder / "events.out.tfevents.1.run.0001"
    curves.write_bytes(b"")
    written = write_tensorboard(load_study(out))
    assert written.trials == tuple(looked_at.trials(out)[arm, 0] for arm in looked_at.ARMS)
    assert written.num_figures == 2 * (3 + 2)
    size = sum(path.stat().st_size for path in (out / "tensorboard").rglob("*.analysis"))
    assert size == written.num_bytes

    (first,) = folder.glob("*.analysis")
    first.rename(folder / "events.out.tfevents.0000000002.analysis")
    write_tensorboard(load_study(out))
    assert len(list(folder.glob("*.analysis"))) == 1
    assert curves.exists()
    events = EventAccumulator(str(folder)).Reload()
    assert events.Tags()["images"] == [
        *(f"timeline/{video}" for video in looked_at.VIDEOS),
        *(f"{kind} alignment/v1 and v0" for kind in ("FSD", "LCS")),
    ]
    (image,) = events.Images("timeline/v0")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert 300 < image.width < image.height


def test_the_same_records_are_not_drawn_again(out: Path) -> None:
    def times() -> list[str]:
        return sorted(str(path) for path in (out / "tensorboard").rglob("*.analysis"))

    def said() -> str:
        console = Console(record=True, width=200)
        show_tensorboard(out, console)
        return console.export_text()

    assert "10 figures" in said()
    first = times()
    assert (said(), times()) == ("", first)
    manifest = out / "manifest.json"
    manifest.write_text(manifest.read_text().replace("fsd_lcs", "other"))
    assert "10 figures" in said()


def test_a_study_without_details_still_gets_its_tab(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(out / "details")
    assert main([str(out)]) == 0
    assert "0 figures, settings and metrics" in capsys.readouterr().out
    assert len(hparams(out)[0].metric_infos) == 1


def test_wrong_input_is_told(out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(out), "--arms", "cont,nobody"]) == 2
    assert "no arm nobody; it has cont, FSD+LCS" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "is not the folder of a study" in capsys.readouterr().err


@pytest.mark.situation(
    "storage",
    "what TensorBoard shows cannot be written after the trials",
    "a warning says so; the study and its report are not touched",
)
def test_what_cannot_be_written_is_a_warning(out: Path) -> None:
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    (out / "tensorboard").write_text("in the way")
    console = Console(record=True, width=200)
    show_tensorboard(out, console)
    assert "nothing could be written for TensorBoard" in console.export_text()


def test_torch_is_not_needed() -> None:
    code = "import sys, analysis.tensorboard; sys.exit('torch' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
