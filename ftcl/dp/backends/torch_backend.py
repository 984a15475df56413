"""Every recurrence with plain torch operations, one anti-diagonal of the whole batch at a time.

Runs wherever torch does. All recurrences are brought to one form, in units of γ (C = value/γ):
C[i,j] = a[i,j] + agg(C[i−1,j−1], g[i,j] + C[i−1,j], g[i,j] + C[i,j−1]), with agg the smooth maximum, the
plain one, or the softmax-weighted mean, except that LCS chooses between its candidates by the threshold.

B items, N rows, M columns, K diagonals and L lanes (see diagonals).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ftcl.dp._arguments import compute_tables, is_outside_band, per_item
from ftcl.dp.backends.diagonals import Diagonals
from ftcl.dp.backends.problem import Problem, Solution, Wants

# Stands for −∞: with a true one, 0·∞ would be NaN. Half of it already means that no path leads to a cell.
_UNREACHABLE = -1e30
_WITHOUT_FLOAT64 = ("mps",)


class _Derivatives(NamedTuple):
    """Of every cell of a filled table."""

    weights: Tensor  # (3, K, L, B): to its predecessors diagonal, up and left
    spread_KLB: Tensor  # to γ, at fixed predecessors


# A filled table, and what gives its derivatives where they are wanted.
_Sweep = tuple[Tensor, Callable[[], _Derivatives]]


def unavailable(device: torch.device) -> str | None:
    """Why tensors on the device cannot be used: no reason, for they always can."""
    return None


def solve(problem: Problem, wants: Wants) -> Solution:
    """Values and unit gradients of the problem's tables."""
    tables = compute_tables(problem)
    dtype, device = tables[0].dtype, tables[0].device
    layout = Diagonals(*tables[0].shape[1:])
    gamma_B = None
    if not problem.is_hard:
        # At a low temperature a float32 sum along a path, divided by γ, has lost what tells candidates apart.
        tables = [x if device.type in _WITHOUT_FLOAT64 else x.double() for x in tables]
        gamma_B = per_item(problem.gamma, tables[0]).detach()
        tables = [x / gamma_B[:, None, None] for x in tables]
    sweep_tables = {"fsd": _fsd, "lcs": _lcs, "soft_dtw": _dtw, "smooth_dtw": _dtw}[problem.recurrence]
    bordered, differentiate = sweep_tables(problem, layout, tables)
    end = layout.end(problem.lengths)
    score_B = bordered[end].clone()
    sign = -1.0 if problem.recurrence in ("soft_dtw", "smooth_dtw") else 1.0
    value_B = sign * (score_B if gamma_B is None else score_B * gamma_B)
    is_reached_B = score_B > 0.5 * _UNREACHABLE
    value_B = value_B.masked_fill(~is_reached_B, torch.inf)
    if wants == Wants.VALUE:
        return Solution(value_B.to(dtype))
    weights, spread_KLB = differentiate()
    adjoint_KLB = layout.adjoint(bordered, end, weights) * is_reached_B
    adjoint_BNM = layout.cells(adjoint_KLB).contiguous()
    diagonal_BNM = layout.cells(weights[0])
    gradients: tuple[Tensor, ...] = (adjoint_BNM,)
    if problem.recurrence == "fsd":
        gradients = (adjoint_BNM, adjoint_BNM * (1.0 - diagonal_BNM))
    elif problem.recurrence == "lcs":
        gradients = (adjoint_BNM * diagonal_BNM,)
    gamma_gradient_B = None
    if wants == Wants.GAMMA_GRADIENT:
        sign = -1.0 if problem.recurrence == "soft_dtw" else 1.0
        gamma_gradient_B = sign * (adjoint_BNM * layout.cells(spread_KLB)).sum(dim=(1, 2))
        gamma_gradient_B = gamma_gradient_B.to(dtype)
    return Solution(value_B.to(dtype), tuple(x.to(dtype) for x in gradients), gamma_gradient_B)


def _fsd(problem: Problem, layout: Diagonals, tables: list[Tensor]) -> _Sweep:
    match_BNM, gap_BNM = tables
    match_KLB = layout.from_cells(match_BNM, outside=0.0)
    # A place outside the table copies its diagonal predecessor, so that the border stays zero.
    gap_KLB = layout.from_cells(gap_BNM, outside=-torch.inf)
    bordered = layout.bordered(match_BNM)
    views = layout.neighbours(bordered)
    largest = _pairwise_max(problem)
    for cell, diagonal, up, left, match, gap in _steps(*views, match_KLB, gap_KLB):
        torch.add(match, largest(diagonal, largest(up, left).add_(gap)), out=cell)

    def differentiate() -> _Derivatives:
        # Made again from the candidates, the weights are normalised, as exp(candidate − cell) would not be.
        candidates = (views.diagonal, gap_KLB + views.up, gap_KLB + views.left)
        weights = _transition_weights(candidates, hard=problem.is_hard)
        return _Derivatives(weights, _entropy(weights))

    return bordered, differentiate


def _lcs(problem: Problem, layout: Diagonals, tables: list[Tensor]) -> _Sweep:
    (similarity_BNM,) = compute_tables(problem)  # not in units of γ
    is_match_BNM = similarity_BNM > per_item(problem.threshold, similarity_BNM)[:, None, None]
    similarity_KLB = layout.from_cells(tables[0], outside=0.0)
    # A place outside the table copies its diagonal predecessor, so that the border stays zero.
    is_match_KLB = layout.from_cells(is_match_BNM, outside=True)
    bordered = layout.bordered(tables[0])
    views = layout.neighbours(bordered)
    largest = _pairwise_max(problem)
    for cell, diagonal, up, left, similarity, is_match in _steps(*views, similarity_KLB, is_match_KLB):
        torch.where(is_match, diagonal + similarity, largest(up, left), out=cell)

    def differentiate() -> _Derivatives:
        skips = _transition_weights((views.up, views.left), hard=problem.is_hard)
        skips.masked_fill_(is_match_KLB, 0.0)
        weights = torch.cat((is_match_KLB.to(bordered.dtype)[None], skips))
        return _Derivatives(weights, _entropy(skips))

    return bordered, differentiate


def _dtw(problem: Problem, layout: Diagonals, tables: list[Tensor]) -> _Sweep:
    score_BNM = -tables[0]
    if problem.bandwidth is not None:
        score_BNM = score_BNM.masked_fill(is_outside_band(problem), _UNREACHABLE)
    # A place outside the table is as unreachable as the border itself.
    score_KLB = layout.from_cells(score_BNM, outside=_UNREACHABLE)
    bordered = layout.bordered(score_BNM).fill_(_UNREACHABLE)
    bordered[0, 0] = 0.0
    views = layout.neighbours(bordered)
    is_mean = problem.recurrence == "smooth_dtw" and not problem.is_hard
    largest = _pairwise_max(problem)
    for cell, diagonal, up, left, score in _steps(*views, score_KLB):
        if is_mean:
            candidates = torch.stack((diagonal, up, left))
            torch.add(score, (candidates.softmax(dim=0) * candidates).sum(dim=0), out=cell)
        else:
            torch.add(score, largest(diagonal, largest(up, left)), out=cell)

    def differentiate() -> _Derivatives:
        weights = _transition_weights(views[1:], hard=problem.is_hard)
        if not is_mean:
            return _Derivatives(weights, _entropy(weights))
        candidates = torch.stack(views[1:])
        deviations = candidates - (weights * candidates).sum(dim=0)
        # An unreachable candidate has weight 0, and a deviation whose square may be infinite.
        variance_KLB = (weights * deviations.masked_fill(weights == 0, 0.0).square()).sum(dim=0)
        return _Derivatives(weights * (1.0 + deviations), variance_KLB)

    return bordered, differentiate


def _steps(*tables: Tensor) -> "zip[tuple[Tensor, ...]]":
    # One unbind makes all the views of a loop; indexing in the loop would cost more than the arithmetic.
    return zip(*(x.unbind() for x in tables), strict=True)


def _pairwise_max(problem: Problem) -> Callable[[Tensor, Tensor], Tensor]:
    return torch.maximum if problem.is_hard else torch.logaddexp


def _entropy(weights: Tensor) -> Tensor:
    return torch.special.entr(weights).sum(dim=0)


def _transition_weights(candidates: Sequence[Tensor], *, hard: bool) -> Tensor:
    """Gradient of the maximum to each of its candidates, stacked in front; the weights of a cell add up to 1.

    softmax(v) with v in units of γ, or 1 for the first of the largest candidates when `hard`.
    """
    stacked = torch.stack(list(candidates))
    if not hard:
        return torch.softmax(stacked, dim=0)
    weights = torch.zeros_like(stacked)
    is_free = torch.ones_like(stacked[0], dtype=torch.bool)
    largest = stacked.amax(dim=0)
    for candidate, weight in zip(stacked, weights, strict=True):
        is_first = is_free & (candidate == largest)
        weight.copy_(is_first)
        is_free &= ~is_first
    return weights
