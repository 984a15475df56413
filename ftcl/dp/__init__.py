"""Differentiable dynamic programming over batches of similarity tables."""

from ftcl.dp.fsd import fsd
from ftcl.dp.lcs import lcs
from ftcl.dp.similarity import cosine_similarity

__all__ = ["cosine_similarity", "fsd", "lcs"]
