"""Alignment losses with one torch operation per table cell, item by item, differentiated by autograd.

This is how FTCL's released losses are built, and how one writes a recurrence down first; it stands for both
in the benchmark. B items, N rows, M columns, E channels.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.dp.cases import THRESHOLD, Case, chosen_rows, is_positive


def build(case: Case, device: torch.device) -> Callable[..., Tensor]:
    """The function of a case, from its inputs to values."""
    if case.function == "soft_dtw":
        return lambda cost_BNM: soft_dtw(cost_BNM, case.gamma)
    if case.function == "fsd":
        return lambda match_BNM, gap_BNM: fsd(match_BNM, gap_BNM, case.gamma)
    if case.function == "lcs":
        return lambda similarity_BNM: lcs(similarity_BNM, THRESHOLD)
    is_positive_B = is_positive(case, device)
    if case.function == "fsd_contrast":
        return lambda rows_2BLF: fsd_contrast(rows_2BLF, is_positive_B, case.gamma)
    chosen_2BL = chosen_rows(case, device)
    return lambda rows_2BLF: lcs_contrast(rows_2BLF, chosen_2BL, is_positive_B, THRESHOLD)


def soft_dtw(cost_BNM: Tensor, gamma: float) -> Tensor:
    """R = c + softmin_γ of the three cells before, with R[0,0] = 0 and infinity on the other borders."""
    values = []
    for cost_NM in cost_BNM:
        num_rows, num_columns = cost_NM.shape
        infinity = cost_NM.new_tensor(torch.inf)
        above = [cost_NM.new_zeros(()), *[infinity] * num_columns]
        for i in range(num_rows):
            row = [infinity]
            for j in range(num_columns):
                before = torch.stack((above[j], above[j + 1], row[j]))
                row.append(cost_NM[i, j] - gamma * torch.logsumexp(-before / gamma, dim=0))
            above = row
        values.append(above[-1])
    return torch.stack(values)


def fsd(match_BNM: Tensor, gap_BNM: Tensor, gamma: float) -> Tensor:
    """C = m + smax_γ(C_diagonal, g + C_up, g + C_left), with zeros on the borders."""
    values = []
    for match_NM, gap_NM in zip(match_BNM, gap_BNM, strict=True):
        num_rows, num_columns = match_NM.shape
        zero = match_NM.new_zeros(())
        above = [zero] * (num_columns + 1)
        for i in range(num_rows):
            row = [zero]
            for j in range(num_columns):
                gap = gap_NM[i, j]
                candidates = torch.stack((above[j], gap + above[j + 1], gap + row[j]))
                row.append(match_NM[i, j] + gamma * torch.logsumexp(candidates / gamma, dim=0))
            above = row
        values.append(above[-1])
    return torch.stack(values)


def lcs(similarity_BNM: Tensor, threshold: float) -> Tensor:
    """C = C_diagonal + s where s > τ, else the larger of C_up and C_left, with zeros on the borders."""
    values = []
    for similarity_NM in similarity_BNM:
        num_rows, num_columns = similarity_NM.shape
        zero = similarity_NM.new_zeros(())
        above = [zero] * (num_columns + 1)
        for i in range(num_rows):
            row = [zero]
            for j in range(num_columns):
                if similarity_NM[i, j] > threshold:
                    row.append(above[j] + similarity_NM[i, j])
                else:
                    row.append(row[j] if row[j] > above[j + 1] else above[j + 1])
            above = row
        values.append(above[-1])
    return torch.stack(values)


def cosine_similarity(x_BNE: Tensor, y_BME: Tensor) -> Tensor:
    """The rows scaled to unit length, then their products."""
    return torch.bmm(F.normalize(x_BNE, dim=2), F.normalize(y_BME, dim=2).mT)


def fsd_contrast(rows_2BLF: Tensor, is_positive_B: Tensor, gamma: float) -> Tensor:
    """FSD with the first half of the channels for matches and the second for gaps, contrasted."""
    half = rows_2BLF.shape[2] // 2
    match_BLL = cosine_similarity(*rows_2BLF[..., :half].chunk(2))
    gap_BLL = cosine_similarity(*rows_2BLF[..., half:].chunk(2))
    return contrast(fsd(match_BLL, gap_BLL, gamma), is_positive_B)


def lcs_contrast(rows_2BLF: Tensor, chosen_2BL: Tensor, is_positive_B: Tensor, threshold: float) -> Tensor:
    """LCS of the cosine similarities of the chosen rows, contrasted."""
    chosen_2BLF = torch.stack([rows_LF[row_L] for rows_LF, row_L in zip(rows_2BLF, chosen_2BL, strict=True)])
    return contrast(lcs(cosine_similarity(*chosen_2BLF.chunk(2)), threshold), is_positive_B)


def contrast(value_B: Tensor, is_positive_B: Tensor) -> Tensor:
    """Mean over the negative pairs - mean over the positive pairs."""
    return value_B[~is_positive_B].mean() - value_B[is_positive_B].mean()
