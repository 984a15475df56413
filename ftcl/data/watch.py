"""Untrimmed sessions composed from real shoulder exercises, recorded with a smartwatch.

Source: the recordings of Burns et al. (arXiv 1802.01489) in the package seglearn: 10 people, 2 sides, 7
exercises, 6 inertial channels at 50 Hz. Five exercises are action classes, two are background. A session
takes all its parts from one person and one side.

Shapes: N samples of a signal, K = 6 channels, T snippets of a session, D feature channels.
"""

import hashlib
import importlib.util
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftcl.data.cache import built_folder
from ftcl.data.videos import DataError, Segment
from ftcl.data.watch_features import SAMPLE_HZ, SNIPPET_SAMPLES, snippet_features
from ftcl.data.writer import ComposedVideo, write_layout

# Raise it with every change of what is built.
VERSION = 1
CLASSES = ("ABD", "ER", "FEL", "IR", "TRAP")
BACKGROUND = ("PEN", "ROW")
NUM_SESSIONS = {"train": 96, "validation": 24, "test": 72}
SNIPPET_S = SNIPPET_SAMPLES / SAMPLE_HZ
# Fold f turns this ring by f places, then cuts it into 6 training, 1 validation and 3 test people. So every
# person validates in one fold and is tested in three; folds 0, 3 and 6 have no test person in common.
PEOPLE = (5, 7, 3, 8, 4, 6, 10, 1, 9, 2)
NUM_FOLDS = len(PEOPLE)

_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
_SESSION_SAMPLES = 1600
_INSTANCES = (2, 4)
_INSTANCE_SAMPLES = (150, 400)
_ACTION_FRACTION = (0.30, 0.65)
# The longest gap still fits into the shortest background recording, 947 samples.
_GAP_SAMPLES = (50, 900)
_SECOND_CLASS_PROBABILITY = 0.3
_FADE_SAMPLES = 10
_MIRRORED_CHANNELS = (0, 4, 5)  # ax, wy, wz

Recordings = Mapping[tuple[int, int, str], np.ndarray]


@dataclass(frozen=True)
class Piece:
    """Part of a session: samples start ... stop - 1 show the exercise `label`."""

    label: str
    start: int
    stop: int


def people_of_split(fold: int) -> dict[str, tuple[int, ...]]:
    """Return who is recorded in which split; nobody is in two."""
    ring = PEOPLE[fold:] + PEOPLE[:fold]
    return {"train": ring[:6], "validation": ring[6:7], "test": ring[7:]}


def build(fold: int, seed: int) -> Path:
    """Return the folder of this fold and data seed, in the ACM-Net layout; build it if it is not cached.

    Raises DataError if the recordings of seglearn are missing or are not those this was written for.
    """
    inputs = {"data": "watch", "version": VERSION, "fold": fold, "seed": seed, "source_sha256": _SHA256}
    meta = inputs | {"people": people_of_split(fold), "snippet_s": SNIPPET_S}
    return built_folder("watch", inputs, lambda folder: write_layout(folder, _sessions(fold, seed), meta))


def read_recordings() -> Recordings:
    """Return the (N, K) recording of each (person, side, exercise), side 1 mirrored onto side 0."""
    spec = importlib.util.find_spec("seglearn")
    if spec is None or spec.origin is None:
        raise DataError("the data watch need the package seglearn: pip install seglearn==1.2.5")
    path = Path(spec.origin).parent / "data" / "watch_dataset.npy"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error}; pip install --force-reinstall seglearn==1.2.5"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != _SHA256:
        raise DataError(
            f"{path} is not the file of seglearn 1.2.5 (SHA-256 {found}, expected {_SHA256}) "
            "and will not be unpickled; pip install --force-reinstall seglearn==1.2.5"
        )
    # The file holds a pickle. These very bytes are known, so unpickling them runs nothing unknown.
    source = np.load(io.BytesIO(content), allow_pickle=True).item()
    mirror = np.ones(6)
    mirror[list(_MIRRORED_CHANNELS)] = -1
    return {
        (int(person), int(side), source["y_labels"][exercise]): signal * mirror if side else signal
        for signal, exercise, person, side in zip(
            source["X"], source["y"], source["subject"], source["side"], strict=True
        )
    }


def _sessions(fold: int, seed: int) -> Iterator[ComposedVideo]:
    recordings = read_recordings()
    composed = [
        (split, *session)
        for index, (split, people) in enumerate(people_of_split(fold).items())
        for session in _compose_split(
            recordings, split, people, np.random.default_rng([VERSION, seed, fold, index])
        )
    ]
    features = {name: snippet_features(signal_NK) for _, name, _, signal_NK in composed}
    train = np.concatenate([features[name] for split, name, _, _ in composed if split == "train"])
    mean_D, sd_D = train.mean(axis=0), train.std(axis=0)
    for split, name, pieces, _ in composed:
        # Rounding lets machines whose last bit differs build the same files.
        x_TD = np.round(np.clip((features[name] - mean_D) / sd_D, -5, 5), 4)
        segments = tuple(
            Segment(piece.start / SAMPLE_HZ, piece.stop / SAMPLE_HZ, piece.label)
            for piece in pieces
            if piece.label in CLASSES
        )
        yield ComposedVideo(name, split, _SESSION_SAMPLES / SAMPLE_HZ, segments, x_TD)


def _compose_split(
    recordings: Recordings, split: str, people: tuple[int, ...], rng: np.random.Generator
) -> Iterator[tuple[str, tuple[Piece, ...], np.ndarray]]:
    """Yield (name, pieces, signal (N, K)) of each session; people, sides and classes take turns."""
    wearers = [(person, side) for person in people for side in (0, 1)]
    labels = rng.permutation([CLASSES[i % len(CLASSES)] for i in range(NUM_SESSIONS[split])])
    for index, label in enumerate(labels):
        person, side = wearers[index % len(wearers)]
        pieces = draw_pieces(str(label), rng)
        signal_NK = join_pieces(
            {name: recordings[person, side, name] for name in CLASSES + BACKGROUND}, pieces, rng
        )
        yield f"{split}_{index:02d}_person{person:02d}_side{side}", pieces, signal_NK


def draw_pieces(label: str, rng: np.random.Generator) -> tuple[Piece, ...]:
    """Draw the course of a session: instances of `label`, perhaps of a second class, with background around.

    Both background exercises occur. All limits are those at the head of this file.
    """
    while True:
        num_instances = int(rng.integers(*_INSTANCES, endpoint=True))
        instances = rng.integers(*_INSTANCE_SAMPLES, num_instances, endpoint=True)
        free = _SESSION_SAMPLES - instances.sum() - (num_instances + 1) * _GAP_SAMPLES[0]
        fraction = instances.sum() / _SESSION_SAMPLES
        if not _ACTION_FRACTION[0] <= fraction <= _ACTION_FRACTION[1] or free < 0:
            continue
        gaps = _GAP_SAMPLES[0] + rng.multinomial(free, rng.dirichlet(np.ones(num_instances + 1)))
        if gaps.max() <= _GAP_SAMPLES[1]:
            break
    labels = [label] * num_instances
    if rng.random() < _SECOND_CLASS_PROBABILITY:
        second = str(rng.choice([other for other in CLASSES if other != label]))
        for index in rng.choice(num_instances, int(rng.integers(1, num_instances)), replace=False):
            labels[index] = second
    gap_labels = rng.permutation([BACKGROUND[i % 2] for i in range(num_instances + 1)])
    pieces: list[Piece] = []
    stop = 0
    for gap_label, gap, label, length in zip(gap_labels, gaps, [*labels, ""], [*instances, 0], strict=True):
        pieces.append(Piece(str(gap_label), stop, stop + int(gap)))
        stop += int(gap) + int(length)
        if length:
            pieces.append(Piece(label, stop - int(length), stop))
    return tuple(pieces)


def join_pieces(
    recordings: Mapping[str, np.ndarray], pieces: tuple[Piece, ...], rng: np.random.Generator
) -> np.ndarray:
    """Return the (N, K) signal of a session: a random cut of a recording for each piece, cross-faded."""
    half = _FADE_SAMPLES // 2
    rise = (np.arange(_FADE_SAMPLES)[:, None] + 0.5) / _FADE_SAMPLES
    signal_NK = np.zeros((pieces[-1].stop + 2 * half, 6))
    for piece in pieces:
        length = piece.stop - piece.start + 2 * half
        recording = recordings[piece.label]
        offset = int(rng.integers(len(recording) - length, endpoint=True))
        cut = recording[offset : offset + length].copy()
        if piece is not pieces[0]:
            cut[:_FADE_SAMPLES] *= rise
        if piece is not pieces[-1]:
            cut[-_FADE_SAMPLES:] *= rise[::-1]
        signal_NK[piece.start : piece.stop + 2 * half] += cut
    return signal_NK[half:-half]
