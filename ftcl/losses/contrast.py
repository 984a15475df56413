"""FTCL's contrast of video pairs (CVPR 2022, arXiv 2203.16800), in the form of the released code.

Shapes: B pairs, N and M candidates of their two members, E channels.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ftcl.dp import cosine_similarity, fsd, lcs
from ftcl.losses import fused
from ftcl.losses.candidates import gather_rows

Alignment = Literal["dp", "mean"]


def pair_contrast(value_B: Tensor, is_positive_B: Tensor) -> Tensor:
    """Mean over the negative pairs - mean over the positive pairs; a kind without pairs contributes 0."""
    return (value_B * contrast_weights(is_positive_B, value_B.dtype)).sum()


def contrast_weights(is_positive_B: Tensor, dtype: torch.dtype) -> Tensor:
    """Derivative of `pair_contrast` to the value of each pair, (B,)."""
    positive_B = is_positive_B.to(dtype)
    negative_B = 1 - positive_B
    return negative_B / negative_B.sum().clamp(min=1) - positive_B / positive_B.sum().clamp(min=1)


def fsd_contrast(
    compared_2BLF: Tensor,
    is_positive_B: Tensor,
    *,
    gamma: float | Tensor,
    alignment: Alignment = "dp",
) -> Tensor:
    """`pair_contrast` of `fsd_values` of the B first and the B second members, a scalar.

    `compared_2BLF`: (2B, L, F), the first members of the pairs before the second ones; `is_positive_B`: (B,)
    bool. For the other arguments see `fsd_values`. ValueError naming the argument that is malformed.
    Float32 rows and a number γ are computed in few passes over the rows, others by these functions one after
    the other; both agree to rounding.
    """
    _check_pairs("compared_2BLF", compared_2BLF, is_positive_B, alignment)

    def compose(compared_2BLF: Tensor) -> Tensor:
        first_BLF, second_BLF = compared_2BLF.chunk(2)
        value_B = fsd_values(first_BLF, second_BLF, gamma=gamma, alignment=alignment)
        return pair_contrast(value_B, is_positive_B)

    return _fused_or_composed(compose, compared_2BLF, None, is_positive_B, "fsd", gamma, 0.0, alignment)


def lcs_contrast(
    embedding_2BTE: Tensor,
    chosen_2BL: Tensor,
    is_positive_B: Tensor,
    *,
    threshold: float | Tensor,
    gamma: float | Tensor = 0.0,
    alignment: Alignment = "dp",
) -> Tensor:
    """`pair_contrast` of `lcs_values` of the chosen rows of the B first and the B second members, a scalar.

    `embedding_2BTE`: (2B, T, E), the first members of the pairs before the second ones; `chosen_2BL`: (2B, L)
    int64 in [0, T); `is_positive_B`: (B,) bool. For the other arguments see `lcs_values`. ValueError naming
    the argument that is malformed, but what `chosen_2BL` holds is looked at on a CPU only: on a GPU a row
    that is not there makes the value NaN, or torch ends the process.
    Float32 rows and numbers γ and τ are computed in few passes over the rows, others by these functions one
    after the other; both agree to rounding.
    """
    _check_pairs("embedding_2BTE", embedding_2BTE, is_positive_B, alignment)
    _check_chosen(chosen_2BL, embedding_2BTE)

    def compose(embedding_2BTE: Tensor) -> Tensor:
        first_BLE, second_BLE = gather_rows(embedding_2BTE, chosen_2BL).chunk(2)
        value_B = lcs_values(first_BLE, second_BLE, threshold=threshold, gamma=gamma, alignment=alignment)
        return pair_contrast(value_B, is_positive_B)

    return _fused_or_composed(
        compose, embedding_2BTE, chosen_2BL, is_positive_B, "lcs", gamma, threshold, alignment
    )


def fsd_tables(first_BNE: Tensor, second_BME: Tensor) -> tuple[Tensor, Tensor]:
    """(match_BNM, gap_BNM): cosine similarities of the first and of the second half of the channels."""
    first_half = first_BNE.shape[2] // 2
    match_BNM = cosine_similarity(first_BNE[..., :first_half], second_BME[..., :first_half])
    gap_BNM = cosine_similarity(first_BNE[..., first_half:], second_BME[..., first_half:])
    return match_BNM, gap_BNM


def fsd_values(
    first_BNE: Tensor, second_BME: Tensor, *, gamma: float | Tensor, alignment: Alignment = "dp"
) -> Tensor:
    """Fine-grained sequence distance of each pair, (B,): `ftcl.dp.fsd` of `fsd_tables`.

    alignment="mean" is the control without dynamic programming: min(N, M) * mean of the match table.
    """
    match_BNM, gap_BNM = fsd_tables(first_BNE, second_BME)
    if alignment == "mean":
        return _scaled_mean(match_BNM)
    return fsd(match_BNM, gap_BNM, gamma)


def lcs_values(
    first_BNE: Tensor,
    second_BME: Tensor,
    *,
    threshold: float | Tensor,
    gamma: float | Tensor = 0.0,
    alignment: Alignment = "dp",
) -> Tensor:
    """Longest common subsequence of each pair, (B,): `ftcl.dp.lcs` of the cosine similarity.

    alignment="mean" is the control without dynamic programming: min(N, M) * mean of the similarity table.
    """
    similarity_BNM = cosine_similarity(first_BNE, second_BME)
    if alignment == "mean":
        return _scaled_mean(similarity_BNM)
    return lcs(similarity_BNM, threshold, gamma=gamma)


def _fused_or_composed(
    compose: Callable[[Tensor], Tensor],
    rows_2BTE: Tensor,
    chosen_2BL: Tensor | None,
    is_positive_B: Tensor,
    recurrence: Literal["fsd", "lcs"],
    gamma: float | Tensor,
    threshold: float | Tensor,
    alignment: Alignment,
) -> Tensor:
    kernels = fused.find_kernels(rows_2BTE, chosen_2BL, is_positive_B, gamma, threshold)
    if kernels is None or alignment != "dp":
        return compose(rows_2BTE)
    comparison = fused.Comparison(recurrence, float(gamma), float(threshold))
    return fused.fused_contrast(kernels, comparison, rows_2BTE, chosen_2BL, is_positive_B, compose)


def _check_pairs(name: str, x_2BLE: Tensor, is_positive_B: Tensor, alignment: str) -> None:
    if not isinstance(x_2BLE, Tensor) or x_2BLE.ndim != 3:
        raise ValueError(f"{name} must be a tensor of three dimensions, got {_description(x_2BLE)}")
    if not isinstance(is_positive_B, Tensor) or is_positive_B.dtype != torch.bool:
        raise ValueError(f"is_positive_B must be a bool tensor, got {_description(is_positive_B)}")
    if is_positive_B.ndim != 1 or len(x_2BLE) != 2 * len(is_positive_B):
        raise ValueError(
            f"is_positive_B must have an entry for every two of the {len(x_2BLE)} sequences of {name}, "
            f"got the shape {tuple(is_positive_B.shape)}"
        )
    _check_device("is_positive_B", is_positive_B, name, x_2BLE)
    if alignment not in get_args(Alignment):
        raise ValueError(f"alignment must be one of {', '.join(get_args(Alignment))}, got {alignment!r}")


def _check_chosen(chosen_2BL: Tensor, embedding_2BTE: Tensor) -> None:
    if not isinstance(chosen_2BL, Tensor) or chosen_2BL.dtype != torch.int64:
        raise ValueError(f"chosen_2BL must be an int64 tensor, got {_description(chosen_2BL)}")
    sequences = len(embedding_2BTE)
    if chosen_2BL.ndim != 2 or len(chosen_2BL) != sequences or not chosen_2BL.shape[1]:
        raise ValueError(
            f"chosen_2BL must have shape ({sequences}, L) with L at least 1, got {tuple(chosen_2BL.shape)}"
        )
    _check_device("chosen_2BL", chosen_2BL, "embedding_2BTE", embedding_2BTE)


def _check_device(name: str, x: Tensor, other_name: str, other: Tensor) -> None:
    if x.device != other.device:
        raise ValueError(f"{name} is on {x.device} but {other_name} on {other.device}; move one of them")


def _description(x: object) -> str:
    return f"{x.dtype} of shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__


def _scaled_mean(similarity_BNM: Tensor) -> Tensor:
    return min(similarity_BNM.shape[1:]) * torch.mean(similarity_BNM, dim=(1, 2))
