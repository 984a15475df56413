import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ftcl.data import sampling

counts = st.integers(1, 60)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(counts, counts, st.integers(0, 2**32))
def test_training_indices_lie_in_their_stretch_of_the_video(available: int, wanted: int, seed: int) -> None:
    indices = sampling.train_indices(available, wanted, generator(seed)).tolist()
    assert len(indices) == wanted
    assert indices == sorted(indices)
    assert indices[0] >= 0 and indices[-1] < available
    if available == wanted:
        assert indices == list(range(wanted))
    if available > wanted:
        for i, index in enumerate(indices[:-1]):
            assert i * available // wanted <= index <= (i + 1) * available // wanted


def test_training_indices_reach_both_ends_of_every_stretch() -> None:
    drawn = torch.stack([sampling.train_indices(10, 4, generator(seed)) for seed in range(400)])
    assert set(drawn[:, 0].tolist()) == {0, 1, 2}
    assert set(drawn[:, 1].tolist()) == {2, 3, 4, 5}
    assert set(drawn[:, 2].tolist()) == {5, 6, 7}
    assert set(drawn[:, 3].tolist()) == {5, 6, 7, 8, 9}
    after_seven = drawn[drawn[:, 2] == 7][:, 3]
    assert set(after_seven.tolist()) == {7, 8, 9}


def test_training_indices_of_a_short_video_repeat_uniformly() -> None:
    drawn = torch.cat([sampling.train_indices(3, 20, generator(seed)) for seed in range(200)])
    assert torch.bincount(drawn).float().div(len(drawn)).sub(1 / 3).abs().max() < 0.03


def test_training_indices_depend_on_the_generator_alone() -> None:
    first = sampling.train_indices(1000, 100, generator(1))
    torch.manual_seed(7)
    assert torch.equal(first, sampling.train_indices(1000, 100, generator(1)))
    assert not torch.equal(first, sampling.train_indices(1000, 100, generator(2)))


@pytest.mark.parametrize(
    ("available", "wanted", "expected"),
    [
        (1, 750, [0, 0]),
        (3, 5, [0, 1, 2]),
        (5, 5, [0, 1, 2, 3, 4]),
        (7, 3, [0, 2, 4]),
        (9, 1, [0]),
    ],
)
def test_evaluation_indices(available: int, wanted: int, expected: list[int]) -> None:
    assert sampling.test_indices(available, wanted).tolist() == expected


def test_evaluation_indices_round_as_the_released_code_does() -> None:
    # 45 * 210 / 75 is 126, but 45 * (210 / 75) is 125.99... in floating point.
    assert sampling.test_indices(210, 75)[45] == 125
    differing = [
        i for i, index in enumerate(sampling.test_indices(1050, 750).tolist()) if index != i * 1050 // 750
    ]
    assert len(differing) == 34


@pytest.mark.parametrize("counts", [(0, 5), (5, 0)])
def test_counts_must_be_positive(counts: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        sampling.test_indices(*counts)
    with pytest.raises(ValueError, match="at least 1"):
        sampling.train_indices(*counts, generator())
