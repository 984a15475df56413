"""How a trial aligns two videos of a class: similarity tables, expected alignments and best paths."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from analysis.load import Study
from analysis.localization.view import View

TABLES: Final = {"FSD": "fsd_match", "LCS": "lcs_similarity"}
"""The similarity that each recurrence aligns by, and the name of its table on record."""


@dataclass(frozen=True, eq=False)
class Alignment:
    """A pair of videos as a trial aligns it; N and M snippets, chosen by attention."""

    kind: str  # of TABLES
    arm: str
    seed: int
    first: str
    second: str
    similarity: np.ndarray  # (N, M) cosine
    first_s: np.ndarray  # (N,) start of each snippet
    second_s: np.ndarray  # (M,)
    score: float | None  # of the best path, so that arms of other temperatures compare; None in old records
    expected: np.ndarray | None  # (N, M) derivative of the value: how surely a cell is part of the alignment
    path: np.ndarray | None  # (P, 2) rows and columns on the best path, in order; for LCS its matches


def alignment(study: Study, view: View, pair: tuple[str, str], kind: str) -> Alignment:
    """Return how a trial aligns a pair that it has details of."""
    arrays = {
        name.rpartition("/")[2]: array
        for name, array in view.details.items()
        if name.startswith("|".join(pair) + "/")
    }
    prefix = kind.lower()
    starts = [
        arrays[f"{prefix}_snippets_{member}"] * _snippet_s(study, view, video)
        for member, video in zip(("first", "second"), pair, strict=True)
    ]
    # Every step of a path goes down, right or both, so that reading by rows keeps its order.
    path = np.argwhere(arrays[f"{prefix}_path"] > 0) if f"{prefix}_path" in arrays else None
    return Alignment(
        kind=kind,
        arm=view.arm,
        seed=view.seed,
        first=pair[0],
        second=pair[1],
        similarity=arrays[TABLES[kind]],
        first_s=starts[0],
        second_s=starts[1],
        score=None if path is None else _score(path, arrays, kind),
        expected=None if path is None else arrays[f"{prefix}_expected"],
        path=path,
    )


def _score(path: np.ndarray, arrays: Mapping[str, np.ndarray], kind: str) -> float:
    """Return Σ similarity of a path's cells, and for FSD Σ gap of those reached by a step down or right."""
    score = arrays[TABLES[kind]][*path.T].sum()
    if kind == "FSD":
        gaps = arrays["fsd_gap"][*path.T]
        # Into the first cell lead a diagonal and gaps, all from a border of 0: the best of them.
        score += max(0.0, gaps[0]) + gaps[1:][(np.diff(path, axis=0) == 0).any(axis=1)].sum()
    return float(score)


def _snippet_s(study: Study, view: View, video: str) -> float:
    """Return the seconds between two of the snippets that the network saw."""
    num_snippets = len(view.details[f"{video}/cas"])
    covered_s = view.details.get(
        f"{video}/covered_s", study.ground_truth()[video].get("duration", num_snippets)
    )
    return float(covered_s) / num_snippets
