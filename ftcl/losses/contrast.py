"""FTCL's contrast of video pairs (CVPR 2022, arXiv 2203.16800), in the form of the released code.

Shapes: B pairs, N and M candidates of their two members, E channels.
"""

from typing import Literal

import torch
from torch import Tensor

from ftcl.dp import cosine_similarity, fsd, lcs
from ftcl.losses.candidates import gather_rows

Alignment = Literal["dp", "mean"]


def pair_contrast(value_B: Tensor, is_positive_B: Tensor) -> Tensor:
    """Mean over the negative pairs - mean over the positive pairs; a kind without pairs contributes 0."""
    positive_B = is_positive_B.to(value_B.dtype)
    negative_B = 1 - positive_B
    weight_B = negative_B / negative_B.sum().clamp(min=1) - positive_B / positive_B.sum().clamp(min=1)
    return (value_B * weight_B).sum()


def fsd_contrast(
    compared_2BLF: Tensor,
    is_positive_B: Tensor,
    *,
    gamma: float | Tensor,
    alignment: Alignment = "dp",
) -> Tensor:
    """`pair_contrast` of `fsd_values` of the B first and the B second members, a scalar.

    `compared_2BLF`: (2B, L, F), the first members of the pairs before the second ones. For the other
    arguments see `fsd_values` and `pair_contrast`.
    """
    first_BLF, second_BLF = _members(compared_2BLF, is_positive_B)
    return pair_contrast(fsd_values(first_BLF, second_BLF, gamma=gamma, alignment=alignment), is_positive_B)


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
    integers, the rows that `gather_rows` takes. For the other arguments see `lcs_values` and `pair_contrast`.
    """
    first_BLE, second_BLE = _members(gather_rows(embedding_2BTE, chosen_2BL), is_positive_B)
    value_B = lcs_values(first_BLE, second_BLE, threshold=threshold, gamma=gamma, alignment=alignment)
    return pair_contrast(value_B, is_positive_B)


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


def _members(x_2BLE: Tensor, is_positive_B: Tensor) -> tuple[Tensor, Tensor]:
    num_pairs = len(is_positive_B)
    if len(x_2BLE) != 2 * num_pairs:
        raise ValueError(
            f"is_positive_B must have an entry for every two of the {len(x_2BLE)} sequences, got {num_pairs}"
        )
    return x_2BLE[:num_pairs], x_2BLE[num_pairs:]


def _scaled_mean(similarity_BNM: Tensor) -> Tensor:
    return min(similarity_BNM.shape[1:]) * torch.mean(similarity_BNM, dim=(1, 2))
