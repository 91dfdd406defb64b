"""Which attributes of modules their code reads."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import nn

from autoprune.plugin import Inputs
from autoprune.structure.verify.training import in_training

Attribute = tuple[str, str]
"""A module's name, and the attribute's."""


def attributes_read(network: nn.Module, inputs: Inputs, asked: Collection[Attribute]) -> set[Attribute]:
    """Those of some attributes that are read in ``eval()`` or ``train()``; all of a module that cannot be watched.

    Args:
        network: In ``eval()``; left as it was.
        inputs: Runs on them.
        asked: The attributes.
    """
    with _watched(network, asked) as read, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        inputs.feed(network)
        with suppress(Exception):  # it wants targets then, say
            in_training(network, inputs)
    return read


@contextmanager
def _watched(network: nn.Module, asked: Collection[Attribute]) -> Iterator[set[Attribute]]:
    names: dict[nn.Module, set[Attribute]] = defaultdict(set)
    for path, attribute in asked:
        names[network.get_submodule(path)].add((path, attribute))
    read: set[Attribute] = set()
    classes: dict[nn.Module, type[nn.Module]] = {}
    try:
        for module, attributes in names.items():
            kind = type(module)
            body = {"__getattribute__": _telling(kind, attributes, read), "__module__": kind.__module__}
            try:
                module.__class__ = type(kind.__name__, (kind,), body)
                classes[module] = kind
            except TypeError:
                read |= attributes
        yield read
    finally:
        for module, kind in classes.items():
            module.__class__ = kind


def _telling(kind: type[nn.Module], attributes: set[Attribute], read: set[Attribute]) -> Callable[[Any, str], Any]:
    by_name: dict[str, set[Attribute]] = defaultdict(set)
    for path, attribute in attributes:
        by_name[attribute].add((path, attribute))

    def look_up(module: Any, name: str) -> Any:
        if name in by_name:
            read.update(by_name[name])
        return kind.__getattribute__(module, name)

    return look_up
