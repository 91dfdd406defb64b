"""Whether two networks predict the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from autoprune.plugin import Inputs

_SAME = 1e-4
"""Largest deviation, relative to the largest output, that is float32 added up in another order."""


def predicts_the_same(
    network: Callable[..., Any], other: Callable[..., Any], inputs: Inputs, others: Inputs | None = None
) -> bool:
    """Whether outputs differ by no more than float32 added up in another order.

    Args:
        network: A bare one, in ``eval()``.
        other: What may take its place; an error of its own is a difference.
        inputs: A few samples as the network takes them.
        others: The same samples as the other one takes them; ``inputs`` if None.
    """
    same = False
    with suppress(Exception), torch.no_grad():  # whatever the model's code may raise
        outputs, made = _floats(inputs.feed(network)), _floats((others or inputs).feed(other))
        # Not a number is not the same.
        same = bool(outputs) and all(
            bool((a - b).abs().max() <= _SAME * a.abs().max()) for a, b in zip(outputs, made, strict=True)
        )
    return same


def _floats(returned: Any) -> list[Tensor]:
    leaves = pytree.tree_leaves(returned)
    return [leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.is_floating_point()]
