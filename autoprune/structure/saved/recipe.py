"""The recipe of a saved model: how to build the dense one, and the steps that make the saved one of it. All data."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure.saved.forms import Forms
from autoprune.structure.surgery.copying import module_or_none, named_tensors
from autoprune.structure.surgery.plan import Plan
from autoprune.toolkit.files import json_of, malformed, plain_file

RECIPE_FILE = "recipe.json"
WEIGHTS_FILE = "weights.safetensors"
PROGRAM_FILE = "program.pt2"
PLUGINS_FOLDER = "plugins"
_FORMAT = 2
_MOST_BYTES = 64 << 20
_MOST_TUPLE = 64


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CutStep(_Data):
    """Tensors lose entries, modules their sizes, blocks make way."""

    kept: dict[str, dict[int, list[int]]] = {}
    """Tensor to dimension to the indices that stay."""
    attributes: dict[str, dict[str, bool | int | list[int]]] = {}
    """Module to attribute to its value."""
    bypassed: dict[str, Annotated[int, Field(ge=0, le=_MOST_TUPLE)]] = {}
    """Module that is left out to the length of the tuple that it returned; 0 for a bare tensor."""

    @classmethod
    def of(cls, plan: Plan) -> CutStep:
        """What a plan does, but for the masks: zeros are among the weights."""
        return cls(
            kept={name: {dim: index.tolist() for dim, index in dims.items()} for name, dims in plan.kept.items()},
            attributes={
                name: {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
                for name, values in plan.attributes.items()
            },
            bypassed=dict(plan.bypassed),
        )

    def then(self, other: CutStep) -> CutStep:
        """This cut and another one, of what it leaves, at once."""
        kept = {name: dict(dims) for name, dims in self.kept.items()}
        for name, dims in other.kept.items():
            for dim, index in dims.items():
                left = kept.get(name, {}).get(dim)
                kept.setdefault(name, {})[dim] = index if left is None else [left[i] for i in index]
        attributes = {name: dict(values) for name, values in self.attributes.items()}
        for name, values in other.attributes.items():
            attributes.setdefault(name, {}).update(values)
        return CutStep(kept=kept, attributes=attributes, bypassed=self.bypassed | other.bypassed)

    def plan(self, network: nn.Module) -> Plan:
        """The plan again, after a look at whether the network can be cut so.

        Raises:
            StructureError: It is not the model of the recipe.
        """
        tensors = named_tensors(network)
        for name, dims in self.kept.items():
            if name not in tensors:
                raise _another(network, f"has no parameter {name!r}")
            for dim, index in dims.items():
                size = tensors[name].shape[dim] if dim in range(tensors[name].ndim) else 0
                rising = all(a < b for a, b in itertools.pairwise(index))
                if not index or not rising or index[0] < 0 or index[-1] >= size:
                    raise _another(network, f"has no such indices along dimension {dim} of {name!r}")
        for name in (*self.attributes, *self.bypassed):
            if module_or_none(network, name) is None:
                raise _another(network, f"has no module {name!r}")
        for name, values in self.attributes.items():
            own = vars(module_or_none(network, name))
            for key, value in values.items():
                if not _is_cut(own.get(key), value):
                    raise _another(network, f"holds no such size {key!r} in module {name!r}")
        return Plan(
            {name: {dim: torch.tensor(index) for dim, index in dims.items()} for name, dims in self.kept.items()},
            {
                name: {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
                for name, values in self.attributes.items()
            },
            bypassed=self.bypassed,
        )


class TransformStep(_Data):
    """A transform replaces modules."""

    transform: dict[str, Any]
    """As in a spec."""
    choice: dict[str, float | str] = {}
    """Its knobs, by their names."""


class Pretrained(_Data):
    """What belongs to a network of transformers besides its tensors."""

    config: dict[str, Any] | None
    """Entries of its configuration whose values are others than the dense network's, by their paths
    (``text_config.hidden_size``); None where no configuration tells its sizes."""
    reason: str = ""
    """Why none does."""


class Recipe(_Data):
    """How a dense model becomes the saved one."""

    format: Literal[2] = 2
    form: Literal["modules", "graph"] = "modules"
    """What is saved: the weights of the dense model's own modules, or an exported program that needs no code."""
    model: dict[str, Any]
    """The model source, as in a spec; builds the dense architecture."""
    folder: Path
    """Folder of the spec, where the model source looks for its files; ``.`` in a recipe that is for any machine."""
    seed: int = Field(default=0, ge=0, lt=2**63)
    steps: tuple[CutStep | TransformStep, ...]
    """In order. A program is what they made already."""
    plugins: tuple[Annotated[str, Field(pattern=r"^[\w.-]+\.py$")], ...] = ()
    """Files in the model's folder ``plugins`` that bring the model source or transforms."""
    masks: tuple[str, ...] = ()
    """Parameters whose zeros are there to stay."""
    groups: dict[str, list[int]] = {}
    """Group to the units that stayed in the last cut, for the reader; of weights and kernels the zeros tell."""
    cut_units: dict[str, int] = {}
    """Group to the number of units that went in the last cut."""
    pretrained: Pretrained | None = None
    """Of networks of transformers."""
    inputs: Forms = {}
    """What the model takes, by keyword; what has none by its place."""
    outputs: Forms = {}
    """The tensors that it returns, by where they stand; a bare one by the empty name."""
    mean: tuple[float, ...] | None = None
    """Inputs are normalised by ``(x - mean) / std`` before the model sees them."""
    std: tuple[float, ...] | None = None

    @property
    def bypassed(self) -> dict[str, int]:
        """Every module that is left out to the length of the tuple that it returned; 0 for a bare tensor."""
        return {name: size for step in self.steps if isinstance(step, CutStep) for name, size in step.bypassed.items()}

    def portable(self) -> Recipe:
        """The recipe for other machines: the spec's folder is where it is opened, and files are told from there."""
        told = {"model": _relative(self.model, self.folder), "folder": Path()}
        steps = tuple(
            step.model_copy(update={"transform": _relative(step.transform, self.folder)})
            if isinstance(step, TransformStep)
            else step
            for step in self.steps
        )
        return self.model_copy(update={**told, "steps": steps})

    def after(self, earlier: Recipe) -> Recipe:
        """The recipe of a model that was made of the one of an earlier recipe: its steps, then these."""
        steps = list(earlier.steps)
        for step in self.steps:
            last = steps[-1] if steps else None
            if isinstance(step, CutStep) and isinstance(last, CutStep):
                steps[-1] = last.then(step)
            else:
                steps.append(step)
        pretrained = self.pretrained
        if pretrained is not None and pretrained.config is not None and earlier.pretrained is not None:
            pretrained = Pretrained(config={**(earlier.pretrained.config or {}), **pretrained.config})
        update = {"model": earlier.model, "folder": earlier.folder, "seed": earlier.seed, "steps": tuple(steps)}
        return self.model_copy(update={**update, "pretrained": pretrained})


def _relative(value: Any, folder: Path) -> Any:
    """Options of a component, where every text that is the full path of something became the way from the folder."""
    if isinstance(value, Mapping):
        return {name: _relative(each, folder) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_relative(each, folder) for each in value]
    if isinstance(value, str) and Path(value).is_absolute() and os.path.lexists(value):
        return os.path.relpath(value, folder)
    return value


def _is_cut(before: object, now: bool | int | list[int]) -> bool:
    """Whether a module's attribute can become that by a cut: a size that is no larger than it was."""
    if isinstance(now, list):
        if not isinstance(before, tuple) or len(before) != len(now):
            return False
        return all(_is_cut(old, new) for old, new in zip(before, now, strict=True))
    if isinstance(now, bool) or not isinstance(before, int) or isinstance(before, bool):
        return type(before) is type(now)
    return 0 <= now <= before


def _another(network: nn.Module, what: str) -> StructureError:
    return StructureError(f"{type(network).__name__} {what}: it is not the model of the recipe")


def read_recipe(folder: Path) -> Recipe:
    """The recipe of a saved model; one that is for any machine takes the current folder for the spec's.

    Raises:
        StructureError: There is none, it is malformed, or another version wrote it.
    """
    file = folder / RECIPE_FILE
    try:
        data = json_of(plain_file(file, most=_MOST_BYTES).read_bytes())
        if isinstance(data, Mapping) and data.get("format") != _FORMAT:
            found = f"{data.get('format')!r:.40}"
            raise StructureError(f"{file} is of format {found}; this version reads format {_FORMAT}")
        recipe = Recipe.model_validate(data)
        return recipe.model_copy(update={"folder": recipe.folder.absolute()})
    except OSError as error:
        raise StructureError(f"{folder} holds no saved model: {error.strerror}: {error.filename}") from error
    except ValueError as error:
        raise StructureError(f"{file} is no recipe: {malformed(error)}") from error


def saved_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and saved buffers, each tensor once.

    Raises:
        StructureError: The network holds more than these.
    """
    unsaved = {
        f"{name}.{buffer}" if name else buffer
        for name, module in network.named_modules()
        for buffer in module._non_persistent_buffers_set
    }
    named = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    known = named_tensors(network)
    if extra := [name for name in network.state_dict() if name not in known]:
        raise StructureError(f"{extra[0]} of {type(network).__name__} is no parameter or buffer: it cannot be saved")
    return {name: tensor.detach() for name, tensor in named.items() if name not in unsaved}
