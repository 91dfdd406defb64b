"""Writing saved models: a recipe (JSON) and weights (safetensors), or an exported program. Nothing is pickled."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.plugin import Choices, Inputs, ModelSource, Normalization, SourceContext, Transform
from autoprune.spec.secrets import masked_data
from autoprune.structure.saved import plugin_files
from autoprune.structure.saved.forms import forms, named_inputs, output_forms
from autoprune.structure.saved.origin import remembered
from autoprune.structure.saved.pretrained import described
from autoprune.structure.saved.program import refill_program, save_program
from autoprune.structure.saved.recipe import (
    PLUGINS_FOLDER,
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
        example: Inputs of two samples or more, to export a network that is a graph, to see whether the configuration
            of one of transformers is right, and to tell the form of what the network takes and returns.
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
    steps = [TransformStep(transform=masked_data(each.reference()), choice=dict(choice)) for each, choice in transforms]
    recipe = Recipe(
        form="graph" if graph else "modules",
        model=masked_data(source.reference()),
        folder=ctx.folder.resolve(),
        seed=ctx.seed,
        steps=(CutStep.of(plan), *steps),
        masks=tuple(plan.masks),
        groups={name: units.tolist() for name, units in kept.items() if units.dtype == torch.int64},
        cut_units=dict(cut_units),
        pretrained=described(network, example),
        inputs={} if example is None else forms(named_inputs(example)),
        outputs={} if example is None else output_forms(network, example),
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
        _write_weights(network, folder)
    _write_recipe(recipe.model_copy(update=update), folder)


def resave(network: nn.Module, folder: Path) -> None:
    """Save a network that `load_pruned` gave once more: its recipe with its new weights.

    Args:
        network: It or a copy of it, left as it is. Its weights may have changed, its modules and shapes may not.
        folder: Is made; a model that was saved in it before is replaced.

    Raises:
        StructureError: The network did not come from `load_pruned`, is no longer what its recipe makes, or the folder
            holds something else.
    """
    origin = remembered(network)
    if origin is None:
        raise StructureError(_unknown(network))
    if change := origin.change(network):
        raise StructureError(
            f"{change}: the network is not what its recipe makes any more; between load_pruned and save_pruned weights"
            " alone may change"
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / RECIPE_FILE).exists():
        raise StructureError(f"{folder} is not empty and holds no saved model; choose another folder")
    unfinished = folder.with_name(f".{folder.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name, source in origin.plugins.items():
        (unfinished / PLUGINS_FOLDER).mkdir(exist_ok=True)
        (unfinished / PLUGINS_FOLDER / name).write_bytes(source)
    if origin.recipe.form == "graph":
        refill_program(origin.folder / PROGRAM_FILE, network.state_dict(), unfinished / PROGRAM_FILE)
    else:
        _write_weights(network, unfinished)
    _write_recipe(origin.recipe, unfinished)
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def _write_weights(network: nn.Module, folder: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in saved_tensors(network).items()}, folder / WEIGHTS_FILE)


def _write_recipe(recipe: Recipe, folder: Path) -> None:
    (folder / RECIPE_FILE).write_text(recipe.model_dump_json(indent=1), encoding="utf-8")


def _unknown(network: nn.Module) -> str:
    kind = type(network).__name__
    inside = next((name for name, child in network.named_children() if remembered(child)), None)
    if inside is not None:  # DataParallel, torch.compile, a pipeline
        return f"this {kind} is around a network that load_pruned gave; save its {inside!r}"
    return (
        f"this {kind} did not come from autoprune.load_pruned, so nothing is known of how it was cut; others are saved"
        " by torch.save or autoprune.save_program"
    )
