"""Which units a model has, what is coupled to each, and how to cut them exactly."""

from autoprune.structure.cut import Plan
from autoprune.structure.recipe import Recipe, load_pruned, read_recipe, save_pruned
from autoprune.structure.structure import Structure, discover
from autoprune.structure.units import Uncut

__all__ = ["Plan", "Recipe", "Structure", "Uncut", "discover", "load_pruned", "read_recipe", "save_pruned"]
