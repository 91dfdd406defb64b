"""Saved models: a recipe (JSON) and weights (safetensors), or an exported program. Nothing is pickled.

The recipe says how to build the dense model, which indices every tensor keeps and which attributes change.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.plugin import Inputs, ModelSource, Normalization, SourceContext
from autoprune.structure.saved.program import load_program, save_program
from autoprune.structure.surgery.cut import Plan, apply, keep_zero
from autoprune.structure.surgery.exported import GraphNetwork

RECIPE_FILE = "recipe.json"
WEIGHTS_FILE = "weights.safetensors"
PROGRAM_FILE = "program.pt2"


class Recipe(BaseModel):
    """How a dense model becomes the saved one. All of it is data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = 1
    form: Literal["modules", "graph"] = "modules"
    """What is saved: the weights of the dense model's own modules, or an exported program that needs no code."""
    model: dict[str, Any]
    """The model source, as in a spec; builds the dense architecture."""
    folder: Path
    """Folder of the spec, where the model source looks for its files."""
    seed: int = 0
    kept: dict[str, dict[int, list[int]]]
    """Tensor to dimension to the indices that stay."""
    attributes: dict[str, dict[str, Any]]
    """Module to attribute to its value."""
    groups: dict[str, list[int]]
    """Group to the units that stay, for the reader; not of weights and kernels, which the zeros tell."""
    cut_units: dict[str, int]
    """Group to the number of units that went."""
    masks: tuple[str, ...] = ()
    """Parameters whose zeros are there to stay."""
    bypassed: dict[str, int] = {}
    """Module that is left out to the length of the tuple that it returned; 0 for a bare tensor."""
    mean: tuple[float, ...] | None = None
    """Inputs are normalised by ``(x - mean) / std`` before the model sees them."""
    std: tuple[float, ...] | None = None


def save_pruned(
    folder: Path,
    network: nn.Module,
    *,
    plan: Plan,
    kept: Mapping[str, Tensor],
    cut_units: Mapping[str, int],
    source: ModelSource,
    ctx: SourceContext,
    normalization: Normalization | None = None,
    example: Inputs | None = None,
) -> None:
    """Save a pruned network so that `load_pruned` opens it.

    Args:
        folder: Is made; files in it are overwritten.
        network: The pruned, recovered network.
        plan: The cut that made it.
        kept: Per group the units that stayed.
        cut_units: Per group the number of units that went.
        source: Builds the dense architecture.
        ctx: Where the source looks for its files.
        normalization: What the caller does to inputs in front of the network.
        example: Inputs of two samples or more, to export a network that is a graph.
    """
    folder.mkdir(parents=True, exist_ok=True)
    graph = isinstance(network, GraphNetwork)
    earlier = source.pruned_in(ctx)
    recipe = Recipe(
        form="graph" if graph else "modules",
        model=source.reference(),
        folder=ctx.folder.resolve(),
        seed=ctx.seed,
        kept={name: {dim: index.tolist() for dim, index in dims.items()} for name, dims in plan.kept.items()},
        attributes={name: dict(values) for name, values in plan.attributes.items()},
        groups={name: units.tolist() for name, units in kept.items() if units.dtype == torch.int64},
        cut_units=dict(cut_units),
        masks=tuple(plan.masks),
        bypassed=dict(plan.bypassed),
        mean=normalization.mean if normalization else None,
        std=normalization.std if normalization else None,
    )
    if earlier is not None and not graph:
        recipe = _composed(read_recipe(earlier), recipe)
    if graph:
        assert example is not None  # noqa: S101  structures have one
        save_program(network, example, folder / PROGRAM_FILE)
    else:
        save_file(_weights(network), folder / WEIGHTS_FILE)
    (folder / RECIPE_FILE).write_text(recipe.model_dump_json(indent=1), encoding="utf-8")


def load_pruned(folder: str | Path, *, dense: nn.Module | None = None, device: str | torch.device = "cpu") -> nn.Module:
    """Open a saved model, in ``eval()``.

    It takes the inputs that the dense model took: normalised, where the spec normalises.

    Args:
        folder: What a search saved.
        dense: The dense model, with any weights. Left out, the recipe's model source builds it: a ``factory`` imports
            the module that the recipe names, from the folder that it names. An exported program needs none.
        device: Where the model goes.

    Raises:
        StructureError: The folder holds no saved model, or ``dense`` is not the model of the recipe.
        DataError: The recipe's model source cannot build the dense model.
    """
    folder = Path(folder)
    recipe = read_recipe(folder)
    if recipe.form == "graph":
        network: nn.Module = load_program(folder / PROGRAM_FILE)
    else:
        network = _from_weights(folder, recipe, _build(recipe, folder) if dense is None else dense)
    for name in recipe.masks:
        parameter = network.get_parameter(name)
        keep_zero(parameter, parameter.detach() != 0)
    return network.eval().to(device)


def _composed(first: Recipe, second: Recipe) -> Recipe:
    """The second cut, of what the first one left, as a cut of the first one's dense model."""
    kept = {name: dict(dims) for name, dims in first.kept.items()}
    for name, dims in second.kept.items():
        for dim, index in dims.items():
            left = kept.get(name, {}).get(dim)
            kept.setdefault(name, {})[dim] = index if left is None else [left[i] for i in index]
    attributes = {name: dict(values) for name, values in first.attributes.items()}
    for name, values in second.attributes.items():
        attributes.setdefault(name, {}).update(values)
    return second.model_copy(
        update={
            "model": first.model,
            "folder": first.folder,
            "seed": first.seed,
            "kept": kept,
            "attributes": attributes,
            "masks": tuple(dict.fromkeys(first.masks + second.masks)),
            "bypassed": first.bypassed | second.bypassed,
        }
    )


def _from_weights(folder: Path, recipe: Recipe, dense: nn.Module) -> nn.Module:
    plan = Plan(
        {name: {dim: torch.tensor(index) for dim, index in dims.items()} for name, dims in recipe.kept.items()},
        {
            name: {k: tuple(v) if isinstance(v, list) else v for k, v in new.items()}
            for name, new in recipe.attributes.items()
        },
        bypassed=recipe.bypassed,
    )
    network = apply(dense, plan)
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise StructureError(f"{folder / WEIGHTS_FILE} cannot be read: {error}") from error
    own = _weights(network)
    if wrong := [
        n for n in own.keys() | weights.keys() if n not in own or n not in weights or own[n].shape != weights[n].shape
    ]:
        raise StructureError(f"the model is not the one of {folder}: tensor {min(wrong)!r} does not fit")
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
    return network


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a saved model.

    Raises:
        StructureError: There is none, or it is malformed.
    """
    try:
        return Recipe.model_validate(json.loads((folder / RECIPE_FILE).read_text(encoding="utf-8")))
    except OSError as error:
        raise StructureError(f"{folder} holds no saved model: {error.strerror}: {error.filename}") from error
    except (ValidationError, ValueError) as error:
        raise StructureError(f"{folder / RECIPE_FILE} is no recipe: {error}") from error


def _build(recipe: Recipe, folder: Path) -> nn.Module:
    from autoprune.host.plugins import PluginHost

    try:
        source = ModelSource.model_validate(recipe.model, context=PluginHost())
    except ValidationError as error:
        raise StructureError(f"{folder / RECIPE_FILE}: {error.errors()[0]['msg']}") from error
    return source.build(SourceContext(folder=recipe.folder, cache=folder, seed=recipe.seed))


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers, each tensor once, contiguous."""
    unsaved = {
        f"{name}.{buffer}" if name else buffer
        for name, module in network.named_modules()
        for buffer in module._non_persistent_buffers_set
    }
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return {name: tensor.detach().contiguous() for name, tensor in named.items() if name not in unsaved}
