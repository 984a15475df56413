"""Published methods as a study sees them: configs, stages, metrics. Importing this does not import torch."""

from ftcl.recipes.acmnet import ACMNET
from ftcl.recipes.ftcl import FTCL
from ftcl.recipes.recipe import Recipe, StageSpec

RECIPES: dict[str, Recipe] = {"acmnet": ACMNET, "ftcl": FTCL}

__all__ = ["RECIPES", "Recipe", "StageSpec"]
