"""How a trial aligns two videos of a class: similarity tables, expected alignments and best paths."""

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
    value: float | None  # at the trial's temperature; None in records that do not tell
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
    has_path = f"{prefix}_path" in arrays
    return Alignment(
        kind=kind,
        arm=view.arm,
        seed=view.seed,
        first=pair[0],
        second=pair[1],
        similarity=arrays[TABLES[kind]],
        first_s=starts[0],
        second_s=starts[1],
        value=float(arrays[f"{prefix}_value"]) if has_path else None,
        expected=arrays[f"{prefix}_expected"] if has_path else None,
        # Every step of a path goes down, right or both, so that reading by rows keeps its order.
        path=np.argwhere(arrays[f"{prefix}_path"] > 0) if has_path else None,
    )


def _snippet_s(study: Study, view: View, video: str) -> float:
    """Return the seconds between two of the snippets that the network saw."""
    num_snippets = len(view.details[f"{video}/cas"])
    covered_s = view.details.get(
        f"{video}/covered_s", study.ground_truth()[video].get("duration", num_snippets)
    )
    return float(covered_s) / num_snippets
