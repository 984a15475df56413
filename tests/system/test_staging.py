"""Data on a real object store: copied to a machine once, and what may go wrong on the way."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ftcl.data import DataError, load_dataset
from study.job import News
from study.plan import Options, make_plan
from study.staging import open_data
from study.store import open_store
from study.trial import run_trial
from tests.study.pretended import acm_folder
from tests.study.trials import PRETRAIN, make_setup, result_of
from tests.system.s3 import Server, running_server


@pytest.fixture(scope="module")
def s3() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return acm_folder(tmp_path / "source")


@pytest.fixture
def spec(s3: Server, folder: Path) -> str:
    """The data of the folder, in a bucket."""
    uri = s3.uri(f"{secrets.token_hex(4)}/data")
    store = open_store(uri)
    for path in folder.rglob("*"):
        if path.is_file():
            store.write(str(path.relative_to(folder)), path.read_bytes())
    return f"acm:{uri}"


def test_a_study_reads_its_data_from_a_bucket(spec: str, folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    plan = make_plan(
        Options(space="fsd_lcs", data=spec, out=str(tmp_path / "out"), protocol="reference"), said.append
    )
    there = load_dataset(f"acm:{folder}", hold_out=False)
    assert plan.manifest["data"]["spec"] == spec
    assert plan.data.fingerprint == there.fingerprint
    assert "13 files" in said[0]
    setup = make_setup(
        tmp_path / "out", data=spec, protocol="reference", fingerprint=there.fingerprint, detail_videos=()
    )
    news: list[News] = []
    run_trial(PRETRAIN, setup, news.append)
    assert result_of(news)["metrics"]


def test_an_object_that_is_replaced_is_copied_anew(spec: str) -> None:
    words = {"fold": 0, "seed": 0, "hold_out": True}
    first = open_data(spec, **words)  # type: ignore[arg-type]
    store = open_store(spec.partition(":")[2])
    time.sleep(1.1)  # S3 counts in seconds
    store.write_with("train/train_3.npy", lambda file: np.save(file, np.zeros((12, 6), np.float32)))
    second = open_data(spec, **words)  # type: ignore[arg-type]
    assert second.fingerprint != first.fingerprint and second.features("train_3").sum() == 0


@pytest.mark.situation(
    "storage",
    "the object store with the data does not answer, or the bucket does not exist",
    "the launch ends within 10 s and says what is wrong; an attempt on a worker is tried again",
)
def test_a_bucket_that_is_not_there_is_told_in_time(s3: Server, spec: str) -> None:
    words = {"fold": 0, "seed": 0, "hold_out": True}
    absent = f"acm:{s3.uri('data', bucket='absent')}"
    with pytest.raises(DataError, match=r"s3://absent/data/gt.json does not exist"):
        open_data(absent, **words)  # type: ignore[arg-type]
    s3.hang()
    started_s = time.monotonic()
    try:
        with pytest.raises(DataError, match=r"cannot read the data .*does not answer"):
            open_data(spec, **words)  # type: ignore[arg-type]
    finally:
        s3.go_on()
    assert time.monotonic() - started_s < 10
