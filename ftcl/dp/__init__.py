"""Differentiable dynamic programming over batches of similarity and cost tables."""

from ftcl.dp.backends import available_backends
from ftcl.dp.dtw import dtw
from ftcl.dp.fsd import fsd
from ftcl.dp.lcs import lcs
from ftcl.dp.similarity import cosine_similarity
from ftcl.dp.smooth_dtw import smooth_dtw
from ftcl.dp.soft_dtw import soft_dtw

__all__ = ["available_backends", "cosine_similarity", "dtw", "fsd", "lcs", "smooth_dtw", "soft_dtw"]
