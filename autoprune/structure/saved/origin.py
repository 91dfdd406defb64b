"""What a network from `load_pruned` remembers of where it came from, so that it can be saved again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.structure.saved.plugin_files import kept_in
from autoprune.structure.saved.recipe import Recipe, saved_tensors
from autoprune.structure.surgery.graph_network import GraphNetwork
from autoprune.structure.surgery.slicing import is_kept_zero, keep_zero

_KEY = "_pruned_from"
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True, eq=False)
class Origin:
    """A saved model, and how its network was when it was opened."""

    folder: Path
    recipe: Recipe
    plugins: Mapping[str, bytes]
    """The plugin files that it brought along, by name."""
    shapes: Mapping[str, torch.Size]
    """Of everything that is saved."""
    modules: Mapping[str, _Module]
    masked: tuple[tuple[Tensor, Tensor], ...]
    """Parameters whose zeros are there to stay, with their masks."""

    @classmethod
    def of(cls, network: nn.Module, folder: Path, recipe: Recipe, masked: Iterable[tuple[Tensor, Tensor]]) -> Origin:
        """Take down how a network is."""
        return cls(
            folder.resolve(),
            recipe,
            {path.name: path.read_bytes() for path in kept_in(folder, recipe) if path.is_file()},
            {name: tensor.shape for name, tensor in saved_tensors(network).items()},
            {name: _Module.of(module) for name, module in network.named_modules()},
            tuple(masked),
        )

    def change(self, network: nn.Module) -> str | None:
        """What a saved model would not have of a network, in words; None if it is the same but for its weights."""
        modules = dict(network.named_modules())
        for name, module in modules.items():
            where = f"module {name}" if name else "the network"
            if name not in self.modules:
                return f"{where} ({type(module).__name__}) is new"
            if change := self.modules[name].change(module):
                return f"{where} {change}"
        if gone := [name for name in self.modules if name not in modules]:
            return f"module {gone[0]} is gone"
        shapes = {name: tensor.shape for name, tensor in saved_tensors(network).items()}
        for name in {**self.shapes, **shapes}:
            before, now = self.shapes.get(name), shapes.get(name)
            if before is None or now is None:
                return f"{name} is {'new' if before is None else 'gone'}"
            if before != now:
                return f"{name} is {tuple(now)}, no longer {tuple(before)}"
        if any(bool(parameter[~mask.to(parameter.device)].any()) for parameter, mask in self.masked):
            return "weights are no longer zero that the search has set to zero for good"
        return None

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        """Of a copied network: what a copy of a parameter loses, it gets back."""
        masked = []
        for parameter, mask in self.masked:
            own = copy.deepcopy(parameter, memo)  # that of the copied network, which is made with the same memo
            if own is not None and own.shape == mask.shape:
                if not is_kept_zero(own):
                    keep_zero(own, mask.to(own.device))
                masked.append((own, mask))
        return replace(self, masked=tuple(masked))


@dataclass(frozen=True)
class _Module:
    """How one module was."""

    kind: str
    hooks: int
    patched: bool
    """Whether its ``forward`` is not its class's."""

    @classmethod
    def of(cls, module: nn.Module) -> _Module:
        own = vars(module)
        graph = isinstance(module, torch.fx.GraphModule)  # each is of a class of its own
        kind = "GraphModule" if graph else type(module).__qualname__
        return cls(kind, sum(len(own[held]) for held in _HOOKS), "forward" in own)

    def change(self, module: nn.Module) -> str | None:
        now = _Module.of(module)
        if now.kind != self.kind:
            return f"is a {now.kind}, no longer a {self.kind}"
        if now.hooks > self.hooks:
            return "has a hook"
        return "has a forward of its own" if now.patched and not self.patched else None


def remember(network: nn.Module, origin: Origin) -> None:
    """Have a network, and its copies, remember where it came from."""
    _held(network)[_KEY] = origin


def remembered(network: nn.Module) -> Origin | None:
    """Where a network came from; None if it was not opened by `load_pruned`."""
    origin = _held(network).get(_KEY)
    return origin if isinstance(origin, Origin) else None


def _held(network: nn.Module) -> dict[str, Any]:
    # A copy of a graph's network has of its attributes only those that PyTorch knows.
    return network.meta if isinstance(network, GraphNetwork) else vars(network)
