"""Which units a model has, what is coupled to each, and how to cut them exactly."""

from autoprune.structure.discover import discover
from autoprune.structure.groups.channels import Uncut
from autoprune.structure.saved.opening import load_pruned
from autoprune.structure.saved.program import load_program, save_program
from autoprune.structure.saved.recipe import CutStep, Recipe, TransformStep, read_recipe
from autoprune.structure.saved.saving import resave, write_pruned
from autoprune.structure.structure import Structure
from autoprune.structure.surgery.plan import Plan

__all__ = [
    "CutStep",
    "Plan",
    "Recipe",
    "Structure",
    "TransformStep",
    "Uncut",
    "discover",
    "load_program",
    "load_pruned",
    "read_recipe",
    "resave",
    "save_program",
    "write_pruned",
]
