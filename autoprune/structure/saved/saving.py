"""Writing saved models: a recipe (JSON) and weights (safetensors), or an exported program. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.plugin import Choices, Inputs, ModelSource, Normalization, SourceContext, Transform
from autoprune.structure.saved import plugin_files
from autoprune.structure.saved.program import save_program
from autoprune.structure.saved.recipe import (
    PROGRAM_FILE,
    RECIPE_FILE,
    WEIGHTS_FILE,
    CutStep,
    Recipe,
    TransformStep,
    read_recipe,
    saved_tensors,
)
from autoprune.structure.surgery.graph_network import GraphNetwork
from autoprune.structure.surgery.plan import Plan


def write_pruned(
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
    transforms: Sequence[tuple[Transform, Choices]] = (),
    plugins: Sequence[Path] = (),
) -> None:
    """Save a pruned network so that `load_pruned` opens it.

    Args:
        folder: Is made; files in it are overwritten.
        network: The pruned, recovered network, after the transforms.
        plan: The cut that made it, of the source's model.
        kept: Per group the units that stayed.
        cut_units: Per group the number of units that went.
        source: Builds the dense architecture; if that is a saved model itself, its steps come before these.
        ctx: Where the source looks for its files.
        normalization: What the caller does to inputs in front of the network.
        example: Inputs of two samples or more, to export a network that is a graph.
        transforms: What replaced modules after the cut, in order, with what was chosen for each.
        plugins: Single-file plugins that bring the source or a transform; copies are kept with the model.

    Raises:
        StructureError: The network is an exported graph and there are transforms, or it holds more than tensors.
    """
    graph = isinstance(network, GraphNetwork)
    if graph and transforms:
        raise StructureError(
            f"{transforms[0][0].name}: the network is an exported graph, without modules that a transform could replace"
        )
    folder.mkdir(parents=True, exist_ok=True)
    steps = [TransformStep(transform=each.reference(), choice=dict(choice)) for each, choice in transforms]
    recipe = Recipe(
        form="graph" if graph else "modules",
        model=source.reference(),
        folder=ctx.folder.resolve(),
        seed=ctx.seed,
        steps=(CutStep.of(plan), *steps),
        masks=tuple(plan.masks),
        groups={name: units.tolist() for name, units in kept.items() if units.dtype == torch.int64},
        cut_units=dict(cut_units),
        mean=normalization.mean if normalization else None,
        std=normalization.std if normalization else None,
    )
    where = source.pruned_in(ctx)
    earlier = None if where is None else read_recipe(where)
    files = list(plugins)
    if where is not None and earlier is not None:
        files += plugin_files.kept_in(where, earlier)
        if not graph and earlier.form == "modules":
            recipe = recipe.after(earlier)
    there = dict(network.named_parameters())
    masks = dict.fromkeys((*(earlier.masks if earlier else ()), *plan.masks))
    # Of a layer that a transform replaced there is no such parameter any more.
    update = {"masks": tuple(name for name in masks if name in there), "plugins": plugin_files.keep(files, folder)}
    if graph:
        if example is None:
            raise StructureError("a network that is an exported graph is saved by an example of its inputs")
        save_program(network, example, folder / PROGRAM_FILE)
    else:
        weights = {name: tensor.contiguous() for name, tensor in saved_tensors(network).items()}
        save_file(weights, folder / WEIGHTS_FILE)
    (folder / RECIPE_FILE).write_text(recipe.model_copy(update=update).model_dump_json(indent=1), encoding="utf-8")
