"""Batches of snippets: the same whether a split is held in memory or read from its files.

Shapes: V videos, S sampled snippets.
"""

import dataclasses

import pytest
import torch

from ftcl.data import VideoDataset, load_dataset
from ftcl.training import snippets

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> VideoDataset:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return load_dataset("synthetic")


@pytest.mark.parametrize(("device", "limit"), [("cpu", 64 * 2**20), ("cuda", 2 * 2**30)])
def test_how_much_is_held(data: VideoDataset, device: str, limit: int) -> None:
    (name, *_) = data.splits["train"]
    for num_snippets, held in ((limit // (4 * 16), True), (limit // (4 * 16) + 1, False)):
        video = dataclasses.replace(data.videos[name], num_snippets=num_snippets)
        long = dataclasses.replace(data, videos={name: video})
        assert snippets.is_resident(long, [name], torch.device(device)) == held


def test_files_give_the_same_batches_as_memory(data: VideoDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    index_VS = snippets.TrainSnippets(data, CPU).sample(40, torch.Generator().manual_seed(0))
    video_B = torch.tensor([3, 0, 3, 11])

    def batches() -> tuple[torch.Tensor, list[snippets.EvaluationBatch]]:
        train = snippets.TrainSnippets(data, CPU).batch(video_B, index_VS)
        return train, list(snippets.EvaluationSnippets(data, "test", 40, CPU))

    held_train, held_test = batches()
    monkeypatch.setattr(snippets, "_RESIDENT_BYTES_CPU", 0)
    read_train, read_test = batches()
    assert torch.equal(held_train, read_train)
    assert [batch.names for batch in held_test] == [batch.names for batch in read_test]
    assert all(torch.equal(a.x_BTD, b.x_BTD) for a, b in zip(held_test, read_test, strict=True))
