"""Modules that do nothing in ``eval()``, such as stochastic depth: an export has nothing of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.dropout import _DropoutNd


@contextmanager
def marked(network: nn.Module) -> Iterator[set[str]]:
    """Have modules that return what they get leave a dropout of rate 0 in a graph, where they stood.

    Dropouts are in a graph by themselves, and `nn.Identity` does nothing in ``train()`` either.

    Args:
        network: As it was, afterwards.

    Yields:
        Names of the modules that did so.
    """
    found: set[str] = set()
    kept: list[tuple[nn.Module, Any]] = []
    for name, module in network.named_modules():
        if name and _may_be_idle(module):
            kept.append((module, module.__dict__.get("forward")))
            module.forward = partial(_marking, module.forward, found, name)
    try:
        yield found
    finally:
        for module, forward in kept:
            del module.forward
            if forward is not None:
                module.forward = forward


def _may_be_idle(module: nn.Module) -> bool:
    """Whether it holds nothing and is none of those that are known."""
    held = (module._modules, module._parameters, module._buffers)
    return not any(held) and not isinstance(module, nn.Identity | _DropoutNd)


def _marking(forward: Callable[..., Any], found: set[str], name: str, *args: Any, **kwargs: Any) -> Any:
    given = [(each, each._version) for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
    returned = forward(*args, **kwargs)
    # What is changed in place, as by `nn.ReLU(inplace=True)`, has another version.
    if any(returned is each and each._version == version for each, version in given):
        found.add(name)
        return functional.dropout(returned, 0.0, training=False)
    return returned
