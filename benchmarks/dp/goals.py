"""The project's targets for ftcl.dp, each with what a run found."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch

from benchmarks.dp.cases import COLD, CONTRAST_CASES, FTCL_SIZES, TABLES, Size
from benchmarks.dp.records import Row
from benchmarks.dp.report import fastest, name_of

CONTRAST_SPEEDUP = 150.0
SOFT_DTW_SPEEDUP, SOFT_DTW_AIM = 2.0, 5.0
LCS_SPEEDUP, LCS_SIZE = 20.0, Size(16, 512, 512)
GPU_SPEEDUP = 5.0
COLD_ERROR = 1e-3
BYTES_KEPT, BYTES_KEPT_RECOMPUTING = 12.0, 5.0


class Finding(NamedTuple):
    """`verdict`: "met", "NOT MET", "not measured", or "reported" where there is no target."""

    verdict: str
    goal: str
    figures: str = ""


def print_goals(rows: Sequence[Row], device: torch.device) -> None:
    """A line per goal."""
    print("\nGoals")
    for finding in findings(rows, device):
        figures = f": {finding.figures}" if finding.figures else ""
        print(f"  {finding.verdict:12}  {finding.goal}{figures}")


def findings(rows: Sequence[Row], device: torch.device) -> Iterator[Finding]:
    """What a run says about each goal."""
    if device.type == "cuda":
        yield from _gpu(rows)
    else:
        yield from _contrasts(rows)
        yield from _soft_dtw(rows)
        yield _lcs(rows)
    yield from _cold(rows)
    yield _kept(rows, "", BYTES_KEPT, lambda name: "recompute" not in name and name != "reference")
    yield _kept(rows, " with recompute=True", BYTES_KEPT_RECOMPUTING, lambda name: "recompute" in name)


def _contrasts(rows: Sequence[Row]) -> Iterator[Finding]:
    goal = f"at least {CONTRAST_SPEEDUP:.0f} × faster than plain loops"
    ours_ms = loops_ms = 0.0
    for case in CONTRAST_CASES:
        block = [row for row in rows if row.function == case.function and row.size == case.size]
        ours, loops = fastest(block, "ours"), fastest(block, "loops")
        yield _ratio(f"{case}: {goal}", loops, ours, CONTRAST_SPEEDUP)
        if case.size != FTCL_SIZES[case.function]:
            continue
        ours_ms += ours.median_ms if ours and ours.median_ms else math.nan
        loops_ms += loops.median_ms if loops and loops.median_ms else math.nan
    goal = f"FTCL's own two, FSD of 5 and LCS of 30, together: {goal}"
    if math.isnan(ours_ms) or math.isnan(loops_ms):
        yield Finding("not measured", goal)
        return
    ratio = loops_ms / ours_ms
    figures = f"{ratio:.3g} × ({ours_ms:.3g} ms against {loops_ms:.3g} ms)"
    yield Finding(_verdict(ratio >= CONTRAST_SPEEDUP), goal, figures)


def _soft_dtw(rows: Sequence[Row]) -> Iterator[Finding]:
    mine = [row for row in rows if row.function == "soft_dtw" and row.section == "sizes"]
    for size in dict.fromkeys(row.size for row in mine):
        block = [row for row in mine if row.size == size]
        goal = f"soft_dtw {name_of(size)}: at least {SOFT_DTW_SPEEDUP:.0f} × faster than the fastest peer"
        goal += f" (aim {SOFT_DTW_AIM:.0f} ×)"
        finding = _ratio(goal, fastest(block, "peer"), fastest(block, "ours"), SOFT_DTW_SPEEDUP)
        is_small = size[1] * size[2] < 30 * 30
        yield Finding("reported", f"soft_dtw {name_of(size)}", finding.figures) if is_small else finding


def _lcs(rows: Sequence[Row]) -> Finding:
    at_size = [row for row in rows if row.size == LCS_SIZE and row.section == "sizes"]
    ours = fastest([row for row in at_size if row.function == "lcs"], "ours")
    peer = fastest([row for row in at_size if row.function == "soft_dtw"], "peer")
    goal = f"lcs {LCS_SIZE}: at least {LCS_SPEEDUP:.0f} × faster than the fastest peer's soft-DTW"
    return _ratio(goal, peer, ours, LCS_SPEEDUP)


def _gpu(rows: Sequence[Row]) -> Iterator[Finding]:
    mine = [row for row in rows if row.section == "sizes"]
    for function in ("soft_dtw", "fsd"):
        for size in dict.fromkeys(row.size for row in mine if row.function == function):
            block = [row for row in mine if row.size == size]
            ours = fastest([row for row in block if row.function == function], "ours")
            peer = fastest([row for row in block if row.function == "soft_dtw"], "peer")
            goal = f"{function} {name_of(size)}: at least {GPU_SPEEDUP:.0f} × faster than pysdtw's soft-DTW"
            finding = _ratio(goal, peer, ours, GPU_SPEEDUP)
            speed = f"; {ours.gbytes_per_s:.3g} GB/s" if ours and ours.gbytes_per_s else ""
            speed += f"; {ours.replay_ms:.3g} ms as a CUDA graph" if ours and ours.replay_ms else ""
            yield finding._replace(figures=finding.figures + speed)


def _cold(rows: Sequence[Row]) -> Iterator[Finding]:
    goal = f"gradient error at N = {COLD.size.rows}, γ = {COLD.gamma}, costs up to {COLD.largest_cost:.0f}"
    goal += f": at most {COLD_ERROR}"
    ours = [row for row in rows if row.section == COLD.section and row.kind == "ours"]
    measured = [(row.gradient_error, row) for row in ours if row.gradient_error is not None]
    if not measured:
        yield Finding("not measured", goal)
    for error, row in measured:
        yield Finding(_verdict(error <= COLD_ERROR), goal, f"{row.contender} {error:.1e}")


def _kept(rows: Sequence[Row], how: str, limit: float, chosen: Callable[[str], bool]) -> Finding:
    mine = [row for row in rows if row.kind == "ours" and row.function in TABLES and chosen(row.contender)]
    kept = [(row.kept_bytes_per_cell, row) for row in mine if row.kept_bytes_per_cell is not None]
    goal = f"kept for the backward pass{how}: at most {limit:.0f} bytes a cell"
    if not kept:
        return Finding("not measured", goal)
    most, row = max(kept, key=lambda pair: pair[0])
    figures = f"at most {most:.1f} ({row.contender}, {row.function} {name_of(row.size)})"
    return Finding(_verdict(most <= limit), goal, figures)


def _ratio(goal: str, slow: Row | None, fast: Row | None, target: float) -> Finding:
    if slow is None or fast is None or not slow.median_ms or not fast.median_ms:
        return Finding("not measured", goal)
    ratio = slow.median_ms / fast.median_ms
    names = f"{fast.contender} {fast.median_ms:.3g} ms against {slow.contender} {slow.median_ms:.3g} ms"
    return Finding(_verdict(ratio >= target), goal, f"{ratio:.3g} × ({names})")


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "NOT MET"
