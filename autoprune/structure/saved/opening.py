"""Opening saved models."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from autoprune.errors import AutopruneError, StructureError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Component, ModelSource, SourceContext, Transform
from autoprune.structure.saved.origin import Origin, remember
from autoprune.structure.saved.plugin_files import HOW_TO_TRUST, host_for
from autoprune.structure.saved.pretrained import settle
from autoprune.structure.saved.program import load_program
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
from autoprune.structure.surgery.plan import Plan
from autoprune.structure.surgery.slicing import apply, keep_zero
from autoprune.toolkit.files import plain_file

C = TypeVar("C", bound=Component)
_MOST_SHOWN = 200
_MOST_NESTED = 20
_OPENING: ContextVar[tuple[Path, ...]] = ContextVar("opening", default=())


def load_pruned(
    folder: str | Path,
    *,
    dense: nn.Module | None = None,
    device: str | torch.device = "cpu",
    trust: bool = False,
    host: PluginHost | None = None,
) -> nn.Module:
    """Open a saved model, in ``eval()``; what `autoprune.load_pruned` does with a folder.

    Args:
        folder: What a search saved.
        dense: The dense model, with any weights; left as it was. Left out, the recipe's model source builds it.
        device: Where the model goes.
        trust: Let the code run that the recipe names or the folder brings along.
        host: Knows the components; the installed plugins and the folder's files if None.

    Raises:
        StructureError: The folder holds no saved model, ``dense`` is not the model of the recipe, or code would have to
            run that is not trusted.
        DataError: The recipe's model source cannot build the dense model.
    """
    folder = Path(folder)
    recipe = read_recipe(folder)
    try:
        network = _network(folder, recipe, dense, trust=trust, host=host)
    except AutopruneError:
        raise
    except Exception as error:  # whatever a source, a transform or a module raises of what does not go together
        cause = " ".join(str(error).split())
        raise StructureError(f"{folder} cannot be opened: {type(error).__name__}: {cause:.300}") from error
    return network.eval().to(device)


def asks_trust(folder: Path, recipe: Recipe, host: PluginHost) -> bool:
    """Whether a saved model is opened with ``trust=True`` alone, unless the dense model is handed over."""
    if recipe.form == "graph":
        return False
    if recipe.plugins:
        return True
    transforms = [step.transform for step in recipe.steps if isinstance(step, TransformStep)]
    parts: list[ModelSource | Transform]
    try:
        parts = [_component(ModelSource.model_validate, recipe.model, host, folder)]
        parts += [_component(Transform.model_validate, each, host, folder) for each in transforms]
    except StructureError:  # of a class that was handed over in Python, which has to be brought again
        return True
    return any(part.runs_named_code for part in parts)


def opening_call(folder: Path, host: PluginHost) -> str:
    """The call that opens a saved model, as Python.

    Args:
        folder: The model's.
        host: Knows the installed components.

    Raises:
        StructureError: The folder holds no saved model.
    """
    recipe = read_recipe(folder)
    if recipe.form == "modules" and recipe.model.get("use") == "live":
        option = ", dense=network"
    else:
        option = ", trust=True" if asks_trust(folder, recipe, host) else ""
    return f"autoprune.load_pruned({str(folder)!r}{option})"


def _network(
    folder: Path, recipe: Recipe, dense: nn.Module | None, *, trust: bool, host: PluginHost | None
) -> nn.Module:
    """The model as it was saved, and where it came from."""
    if recipe.form == "graph":
        network: nn.Module = load_program(folder / PROGRAM_FILE)
    else:
        network = _of_modules(folder, recipe, dense, trust=trust, host=host)
    parameters = dict(network.named_parameters(remove_duplicate=False))
    if wrong := [name for name in recipe.masks if name not in parameters]:
        raise StructureError(f"{folder / RECIPE_FILE}: masks: the model has no parameter {wrong[0]!r:.200}")
    masked = []
    for parameter in (parameters[name] for name in recipe.masks):
        masked.append((parameter, parameter.detach() != 0))
        keep_zero(*masked[-1])
    settle(network, recipe.pretrained)
    remember(network, Origin.of(network, folder, recipe, masked))
    return network


def _of_modules(
    folder: Path, recipe: Recipe, dense: nn.Module | None, *, trust: bool, host: PluginHost | None
) -> nn.Module:
    """The dense model after every step, with the saved weights."""
    if host is None and (dense is None or any(isinstance(step, TransformStep) for step in recipe.steps)):
        host = host_for(folder, recipe, trust=trust)
    if dense is None:
        assert host is not None  # noqa: S101  just made
        source = _component(ModelSource.model_validate, recipe.model, host, folder)
        if source.runs_named_code and not trust:
            raise StructureError(_untrusted(folder, recipe.model, "or hand the dense model over: dense=model"))
        with _opening(folder):
            dense = source.build(SourceContext(recipe.folder, folder, recipe.seed, host.objects))
    network = dense if recipe.steps and isinstance(recipe.steps[0], CutStep) else apply(dense, Plan({}))
    for step in recipe.steps:
        if isinstance(step, CutStep):
            network = apply(network, step.plan(network))
        else:
            assert host is not None  # noqa: S101  there are transforms
            transform = _component(Transform.model_validate, step.transform, host, folder)
            if transform.runs_named_code and not trust:
                raise StructureError(_untrusted(folder, step.transform))
            network = transform.rebuild(network, step.choice)
    _fill(network, folder)
    return network


def _untrusted(folder: Path, reference: Mapping[str, object], otherwise: str = "") -> str:
    what = json.dumps(reference, default=str)
    way = f"if you trust the folder, write {HOW_TO_TRUST}{', ' if otherwise else ''}{otherwise}"
    return f"{folder} is opened by {_short(what)}, which may run code that it names; {way}"


def _short(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"


@contextmanager
def _opening(folder: Path) -> Iterator[None]:
    """While the dense model of a saved model is built, which may be a saved model again.

    Raises:
        StructureError: It is this one, or one of a chain without end.
    """
    opening, folder = _OPENING.get(), folder.resolve()
    if folder in opening:
        raise StructureError(f"{folder} is a cut of itself: its recipe leads back to it")
    if len(opening) >= _MOST_NESTED:
        raise StructureError(f"{folder} is a cut of a cut, {_MOST_NESTED} times over")
    token = _OPENING.set((*opening, folder))
    try:
        yield
    finally:
        _OPENING.reset(token)


def _component(validate: Callable[..., C], reference: dict[str, object], host: PluginHost, folder: Path) -> C:
    try:
        return validate(reference, context=host)
    except ValidationError as error:
        raise StructureError(f"{folder / RECIPE_FILE}: {error.errors()[0]['msg']}") from error


def _fill(network: nn.Module, folder: Path) -> None:
    """Copy the saved weights into a network.

    Raises:
        StructureError: They are not its own, by name, shape and kind of number.
    """
    file = folder / WEIGHTS_FILE
    try:
        weights = load_file(plain_file(file))
    except (OSError, SafetensorError) as error:
        raise StructureError(f"{file} cannot be read: {' '.join(str(error).split()):.300}") from error
    own = saved_tensors(network)

    def fits(name: str) -> bool:
        if name not in own or name not in weights or own[name].shape != weights[name].shape:
            return False
        kinds = [(each.is_floating_point(), each.is_complex()) for each in (own[name], weights[name])]
        return kinds[0] == kinds[1]

    if wrong := [name for name in own.keys() | weights.keys() if not fits(name)]:
        raise StructureError(f"the model is not the one of {folder}: tensor {min(wrong)!r} does not fit")
    with torch.no_grad():
        for name, tensor in weights.items():
            own[name].copy_(tensor)
