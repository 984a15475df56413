import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from study import surroundings
from study.job import Job, Setup
from study.plan import Options, Plan, make_plan
from study.records import MANIFEST, TRIALS
from study.store import Store, open_store
from tests.study.pretended import SPACE, acm_folder
from tests.study.reproduced import Alter, run_original
from tests.study.small_study import change_rows
from tests.study.spaces import GOOD, Write
from tests.study.trials import FINETUNE, PRETRAIN, make_setup, result_of, told


@pytest.fixture
def space_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the test space with some keys replaced."""

    def write(**changes: Any) -> Path:
        path = tmp_path / "small.yaml"
        path.write_text(yaml.safe_dump({**SPACE, **changes}, sort_keys=False))
        return path

    return write


@pytest.fixture
def make_small_plan(space_file: Callable[..., Path], tmp_path: Path) -> Callable[..., Plan]:
    """Return a function that plans the test study; keyword arguments are options, `space` replaces keys."""

    def make(space: dict[str, Any] | None = None, **options: Any) -> Plan:
        path = space_file(**(space or {}))
        return make_plan(Options(**{"space": str(path), "out": str(tmp_path / "out"), **options}))

    return make


@pytest.fixture
def write_space(tmp_path: Path) -> Write:
    """Return a function that writes the space GOOD, or another text, with some words replaced."""

    def write(*replacements: tuple[str, str], text: str = GOOD) -> Path:
        for old, new in replacements:
            assert text.count(old) == 1, f"{old!r} is not unique in the file"
            text = text.replace(old, new)
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data_folder(tmp_path: Path) -> Path:
    """Data where they come from, with files that are none of them."""
    folder = acm_folder(tmp_path / "source")
    (folder / "train" / "notes.txt").write_text("not to be copied")
    (folder / "movie.mp4").write_bytes(b"not to be copied")
    return folder


@pytest.fixture(scope="session")
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
    """Where the study of `setup` keeps its files."""
    return open_store(setup.out)


@pytest.fixture
def finetune(pretrained: tuple[str, bytes]) -> Job:
    """A trial that starts from the pretrained model of `setup`."""
    return replace(FINETUNE, init=pretrained[0])


@pytest.fixture(scope="session")
def records_of_a_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    run_original(out)
    return out


@pytest.fixture
def original(records_of_a_study: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study that `reproduce` is tested with; whoever edits the source meanwhile is not what is tested."""
    recorded = json.loads((records_of_a_study / MANIFEST).read_text())
    there = surroundings.environment
    monkeypatch.setattr(surroundings, "environment", lambda: {**there(), "git": recorded["git"]})
    monkeypatch.setattr(surroundings, "source_digest", lambda: recorded["launches"][-1]["source"])
    return records_of_a_study


@pytest.fixture
def alter(original: Path, tmp_path: Path) -> Alter:
    """Return a function that copies the study and changes the record of a trial."""

    def copy(trial: int | None = None, **cells: Any) -> Path:
        out = tmp_path / "copy"
        shutil.copytree(original, out)
        if cells:
            change_rows(out / TRIALS, {"trial": trial}, cells)
        return out

    return copy
