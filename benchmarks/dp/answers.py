"""What a contender answers, and how far that is from the truth.

The truth is computed in float64 by the torch backend of ftcl.dp, which is itself checked against the plain
loops in float64 at the start of every run.
"""

import importlib
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.dp import plain_loops
from benchmarks.dp.cases import (
    CONTRASTS,
    FUNCTIONS,
    THRESHOLD,
    Case,
    Size,
    chosen_rows,
    is_positive,
    make_inputs,
)
from benchmarks.dp.contenders import Contender, Values

MAX_VALUE_ERROR = 1e-3
MAX_GRADIENT_ERROR = 1e-2
MAX_TRUTH_ERROR = 1e-9


@dataclass(frozen=True)
class Answer:
    """Values, and the gradient of their sum to every input."""

    values: Tensor
    gradients: tuple[Tensor, ...]


@dataclass(frozen=True)
class Errors:
    """Largest deviation of the values and of any gradient, each relative to the largest true entry."""

    value: float
    gradient: float


def leaves_on(device: torch.device, case: Case, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """The inputs of a case where they are needed, ready to be differentiated by."""
    return tuple(x.to(device, dtype).requires_grad_() for x in make_inputs(case))


def fresh_inputs(contender: Contender, leaves: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs, or copies of them for a contender that writes into what it is given."""
    if not contender.overwrites_inputs:
        return leaves
    return tuple(x.detach().clone().requires_grad_() for x in leaves)


def answer(values: Values, leaves: tuple[Tensor, ...]) -> Answer:
    """Forward and backward pass: this is what is timed."""
    value = values(*leaves)
    return Answer(value, torch.autograd.grad(value.sum(), leaves))


def true_answer(case: Case, device: torch.device) -> Answer:
    """The answer in float64."""
    return answer(_true_values(case, device), leaves_on(device, case, torch.float64))


def errors(found: Answer, truth: Answer) -> Errors:
    """How far an answer is off; infinite for a wrong shape or anything that is not finite."""
    pairs = zip(found.gradients, truth.gradients, strict=True)
    return Errors(_error(found.values, truth.values), max(_error(x, y) for x, y in pairs))


def why_wrong(error: Errors) -> str | None:
    """None for a result that is good enough to be timed."""
    if not error.value <= MAX_VALUE_ERROR:
        return f"wrong: value off by {error.value:.1e}"
    if not error.gradient <= MAX_GRADIENT_ERROR:
        return f"wrong: gradient off by {error.gradient:.1e}"
    return None


def check_truth() -> float:
    """The largest deviation of the truth from the plain loops, both in float64, on small tables."""
    device, largest = torch.device("cpu"), 0.0
    for function in FUNCTIONS:
        channels = 16 if function in CONTRASTS else 0
        for size in (Size(4, 5, 5), Size(3, 4, 11), Size(3, 11, 4)):
            if channels and size.rows != size.columns:
                continue
            for gamma in (0.1, 0.01):
                case = Case("truth", function, size, gamma=gamma, channels=channels)
                leaves = leaves_on(device, case, torch.float64)
                error = errors(true_answer(case, device), answer(plain_loops.build(case, device), leaves))
                largest = max(largest, error.value, error.gradient)
    return largest


def _true_values(case: Case, device: torch.device) -> Values:
    dp = importlib.import_module("ftcl.dp")
    if case.function == "soft_dtw":
        return lambda cost_BNM: dp.soft_dtw(cost_BNM, case.gamma, backend="torch")
    if case.function == "fsd":
        return lambda match_BNM, gap_BNM: dp.fsd(match_BNM, gap_BNM, case.gamma, backend="torch")
    if case.function == "lcs":
        return lambda similarity_BNM: dp.lcs(similarity_BNM, THRESHOLD, backend="torch")
    is_positive_B, chosen_2BL = is_positive(case, device), chosen_rows(case, device)

    def contrast(rows_2BLF: Tensor) -> Tensor:
        x_BLF, y_BLF = rows_2BLF.chunk(2)
        if case.function == "lcs_contrast":
            index_2BLF = chosen_2BL[..., None].expand(-1, -1, case.channels)
            x_BLF, y_BLF = rows_2BLF.gather(1, index_2BLF).chunk(2)
            similarity_BLL = plain_loops.cosine_similarity(x_BLF, y_BLF)
            value_B = dp.lcs(similarity_BLL, THRESHOLD, backend="torch")
        else:
            half = case.channels // 2
            match_BLL = plain_loops.cosine_similarity(x_BLF[..., :half], y_BLF[..., :half])
            gap_BLL = plain_loops.cosine_similarity(x_BLF[..., half:], y_BLF[..., half:])
            value_B = dp.fsd(match_BLL, gap_BLL, case.gamma, backend="torch")
        return plain_loops.contrast(value_B, is_positive_B)

    return contrast


def _error(found: Tensor, truth: Tensor) -> float:
    found = found.detach()
    if found.shape != truth.shape or not bool(torch.isfinite(found).all()):
        return torch.inf
    scale = truth.detach().abs().max().clamp(min=torch.finfo(truth.dtype).tiny)
    return float((found.double() - truth.detach()).abs().max() / scale)
