"""Losses: top-k multiple-instance classification, attention terms, and the contrast of video pairs."""

from ftcl.losses.acmnet import AcmnetLoss, acmnet_loss
from ftcl.losses.attention import feature_term, guide_term, sparse_term
from ftcl.losses.candidates import gather_rows, rank_by_attention, select_candidates
from ftcl.losses.classification import BranchTargets, branch_targets, cross_entropy
from ftcl.losses.contrast import (
    fsd_contrast,
    fsd_tables,
    fsd_values,
    lcs_contrast,
    lcs_values,
    pair_contrast,
)

__all__ = [
    "AcmnetLoss",
    "BranchTargets",
    "acmnet_loss",
    "branch_targets",
    "cross_entropy",
    "feature_term",
    "fsd_contrast",
    "fsd_tables",
    "fsd_values",
    "gather_rows",
    "guide_term",
    "lcs_contrast",
    "lcs_values",
    "pair_contrast",
    "rank_by_attention",
    "select_candidates",
    "sparse_term",
]
