"""Propose, then verify: what is offered was cut once, and the result compared with the masked original."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.plugin import Group
from autoprune.structure.cut import keeps_sizes
from autoprune.structure.graph import Traced, evaluating
from autoprune.structure.labeler import Labeler
from autoprune.structure.labeling import Labeling
from autoprune.structure.structure import Structure, build

TOLERANCE = 1e-4
"""Largest deviation from the masked original, relative to the largest output (float32)."""


Sizes = Mapping[tuple[str, str], Tensor]


def verified(network: nn.Module, inputs: Sequence[Tensor], traced: Traced, found: Labeling) -> Structure:
    """The structure with every group that does not verify refused.

    All groups are cut at once first. Only if that fails is each tried alone, and before a group is given up: other
    readings of the attributes that may hold a size (with four heads of size four, which is it that changes?), and
    where the graph spreads units over two dimensions, the other way to cut them.
    """
    with evaluating(network):
        readings: dict[str, str] = {}
        best, refused = _attempt(network, inputs, traced, found, _sizes(network, found, readings))
        for attribute in sorted({attribute for _, attribute in _sizes(network, found, {})} if refused else ()):
            for reading in ("last", "none"):
                other_sizes = _sizes(network, found, {**readings, attribute: reading})
                structure, failing = _attempt(network, inputs, traced, found, other_sizes)
                if _offered(structure) > _offered(best):
                    best, refused, readings = structure, failing, {**readings, attribute: reading}
        choices: dict[str, int] = {}
        for node, ways in found.splits.items():
            for way in range(1, ways if refused else 0):
                other = Labeler(traced, {**choices, node: way}).label()
                structure, failing = _attempt(network, inputs, traced, other, _sizes(network, other, readings))
                if _offered(structure) > _offered(best):
                    best, refused, choices = structure, failing, {**choices, node: way}
        return best


def _sizes(network: nn.Module, found: Labeling, readings: Mapping[str, str]) -> dict[tuple[str, str], Tensor]:
    """Integer attributes of modules whose code reshapes or splits units, that equal one of the sizes there.

    Where several sizes are equal, an attribute's reading tells which it is: the first in the module's code (if it has
    no reading), the ``last``, or ``none``.
    """
    sizes: dict[tuple[str, str], Tensor] = {}
    for size in found.sizes:
        module = network.get_submodule(size.module)
        if keeps_sizes(module):
            continue
        for attribute, value in vars(module).items():
            reading = readings.get(attribute)
            if type(value) is int and value == len(size.labels) and reading != "none":
                key = (size.module, attribute)
                sizes[key] = size.labels if reading == "last" else sizes.get(key, size.labels)
    return sizes


def _offered(structure: Structure) -> int:
    return sum(group.units for group in structure.groups)


def _attempt(
    network: nn.Module, inputs: Sequence[Tensor], traced: Traced, found: Labeling, sizes: Sizes
) -> tuple[Structure, dict[str, str]]:
    proposed = build(network, traced, found, {}, sizes)
    refused = {g.name: "its layer has one unit" for g in proposed.groups if g.units < 2}
    structure = build(network, traced, found, refused, sizes)
    if not structure.groups or deviation(structure, network, inputs, structure.groups) is None:
        return structure, refused
    refused |= {
        group.name: reason
        for group in structure.groups
        if (reason := deviation(structure, network, inputs, [group])) is not None
    }
    sound = build(network, traced, found, refused, sizes)
    together: list[Group] = []
    if sound.groups and deviation(sound, network, inputs, sound.groups) is not None:
        for group in sound.groups:
            reason = deviation(sound, network, inputs, [*together, group])
            if reason is None:
                together.append(group)
            else:
                refused[group.name] = f"together with other groups: {reason}"
        sound = build(network, traced, found, refused, sizes)
    return sound, refused


def deviation(
    structure: Structure, network: nn.Module, inputs: Sequence[Tensor], groups: Sequence[Group]
) -> str | None:
    """Why cutting some units of those groups differs from the masked original; None when it does not."""
    generator = torch.Generator().manual_seed(0)
    kept = {}
    for group in groups:
        stays = max(1, group.units - max(1, group.units // 3))
        kept[group.name] = torch.randperm(group.units, generator=generator)[:stays].sort().values
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            masked = structure.masked(network, kept)(*inputs)
            small = structure.cut(network, kept)(*inputs)
        except Exception as error:  # noqa: BLE001  the model's own code may raise anything on sizes it cannot have
            cause = (str(error).strip().splitlines() or [""])[0]
            return f"the cut model does not run: {type(error).__name__}: {cause}"
    return _difference(masked, small)


def _difference(expected: Any, actual: Any) -> str | None:
    left = [leaf for leaf in pytree.tree_leaves(expected) if isinstance(leaf, Tensor)]
    right = [leaf for leaf in pytree.tree_leaves(actual) if isinstance(leaf, Tensor)]
    if [leaf.shape for leaf in left] != [leaf.shape for leaf in right]:
        return "the cut model's outputs have other shapes"
    for a, b in zip(left, right, strict=True):
        scale = max(1.0, float(a.abs().max())) if a.numel() else 1.0
        worst = float((a.double() - b.double()).abs().max()) if a.numel() else 0.0
        if not worst <= TOLERANCE * scale:
            return f"the cut model differs from the masked one by {worst:.2g} at outputs of size {scale:.2g}"
    return None
