import numpy as np
import pytest

from ftcl.evaluation import GroundTruth, detection_map, metrics, oracle_label_windows, random_windows

NUM_SESSIONS = 72
CLASSES = ("a", "b", "c", "d", "e")
NAMES = tuple(f"session {i}" for i in range(NUM_SESSIONS))
LENGTHS_S = (3.0, 4.0, 5.0, 6.0, 7.0, 8.0)


@pytest.fixture(scope="module")
def sessions():
    """Sessions of 32 s with one class or two and two to four actions of 3 to 8 s."""
    generator = np.random.default_rng(7)
    rows = []
    for video in range(NUM_SESSIONS):
        labels = generator.choice(len(CLASSES), 1 + (generator.random() < 0.3), replace=False)
        num_actions = generator.integers(2, 5)
        for slot in range(num_actions):
            length_s = generator.uniform(3, min(8, 32 / num_actions - 1))
            start_s = 32 / num_actions * slot + generator.uniform(0, 32 / num_actions - 1 - length_s)
            rows.append((video, labels[slot % len(labels)], start_s, start_s + length_s))
    video, label, start_s, end_s = np.array(rows).T
    return GroundTruth(
        NAMES, CLASSES, np.full(NUM_SESSIONS, 32.0), video.astype(int), label.astype(int), start_s, end_s
    )


def average(sessions, found):
    return metrics(detection_map(sessions, found, np.arange(0.1, 0.75, 0.1)))["mAP@0.1:0.7"]


def test_chance_is_near_zero_and_labels_alone_are_worth_much_more(sessions):
    durations_s = sessions.duration_s
    labels = [set(sessions.label[sessions.video == video].tolist()) for video in range(NUM_SESSIONS)]
    chance, oracle = [], []
    for seed in range(5):
        chance.append(
            random_windows(
                NAMES, durations_s, CLASSES, window_lengths_s=LENGTHS_S, generator=np.random.default_rng(seed)
            )
        )
        oracle.append(
            oracle_label_windows(
                NAMES,
                durations_s,
                labels,
                CLASSES,
                window_lengths_s=LENGTHS_S,
                generator=np.random.default_rng(seed),
            )
        )
    assert 0.5 < np.mean([average(sessions, found) for found in chance]) < 5
    assert 20 < np.mean([average(sessions, found) for found in oracle]) < 32


def test_windows_slide_by_half_their_length_and_stay_inside():
    found = oracle_label_windows(
        ["long", "short"],
        [5.0, 1.5],
        [{1}, {2, 0}],
        CLASSES,
        window_lengths_s=[2.0, 4.0],
        generator=np.random.default_rng(0),
    )
    windows = list(zip(found.video, found.label, found.start_s, found.end_s, strict=True))
    assert windows == [
        *((0, 1, start_s, start_s + 2.0) for start_s in (0.0, 1.0, 2.0, 3.0)),
        (0, 1, 0.0, 4.0),
        *[(1, 0, 0.0, 1.5)] * 2,
        *[(1, 2, 0.0, 1.5)] * 2,
    ]
    assert len(set(found.score)) == len(found)


def test_random_windows_are_those_of_one_class_a_video_and_follow_the_generator():
    def draw(seed):
        return random_windows(
            NAMES,
            [32.0] * NUM_SESSIONS,
            CLASSES,
            window_lengths_s=[4.0],
            generator=np.random.default_rng(seed),
        )

    found = draw(3)
    assert len(found) == NUM_SESSIONS * 15
    assert all(len(set(found.label[found.video == video])) == 1 for video in range(NUM_SESSIONS))
    assert set(found.label) == set(range(len(CLASSES)))
    again = draw(3)
    assert (again.score == found.score).all() and (again.label == found.label).all()
    assert (draw(4).score != found.score).any()


def test_wrong_input_is_explained():
    generator = np.random.default_rng(0)
    for lengths_s in ([], [4.0, 0.0]):
        with pytest.raises(ValueError, match="window length"):
            random_windows(["a"], [5.0], CLASSES, window_lengths_s=lengths_s, generator=generator)
    with pytest.raises(ValueError, match="1 videos, 2 durations"):
        random_windows(["a"], [5.0, 6.0], CLASSES, window_lengths_s=[4.0], generator=generator)
