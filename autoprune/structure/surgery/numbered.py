"""Attention layers that know their number: caches of keys and values are kept by it.

What a cache knows (how many tokens went before) is asked of its first place, so that the first layer that is left has
to have that one.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from torch import nn

from autoprune.structure.surgery.copying import module_or_none

_NUMBER = "layer_idx"


def take_first_places(network: nn.Module, cut: nn.Module) -> None:
    """Give the place of a layer that is gone with its block, where that was the first of its kind, to the next one.

    Args:
        network: Before the blocks went.
        cut: After; changed.
    """
    alike: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for name, module in network.named_modules():
        number = vars(module).get(_NUMBER)
        if type(number) is int:
            alike[re.sub(r"\d+", "*", name)].append((name, number))
    for layers in alike.values():
        first = min(number for _, number in layers)
        left = [(name, number) for name, number in layers if module_or_none(cut, name) is not None]
        if not left or any(number == first for _, number in left):
            continue
        name, number = left[0]
        setattr(module_or_none(cut, name), _NUMBER, first)
        # Where layers are of several kinds, a cache learns here of which kind each is. Nobody asks it of what is gone.
        kinds: Any = getattr(getattr(cut, "config", None), "layer_types", None)
        if isinstance(kinds, list) and max(first, number) < len(kinds):
            kinds[first] = kinds[number]
