"""What counts of what a network returns.

Models return more than anyone asks of them: caches of keys and values, hidden states, pooled states. What nobody looks
at need not be traced, must not keep units from being cut, and may be of a type that only its library knows.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

Counts = Callable[[Any], Any]
"""What a network returned to the tensors that count: `Task.pick`."""


@contextmanager
def counting(network: nn.Module, counts: Counts | None = None) -> Iterator[None]:
    """Have a network return what counts, each tensor where it was, in plain dicts, tuples and lists.

    Args:
        network: As it was, afterwards; its copies that are made meanwhile stay so.
        counts: Picks what counts; None for every tensor that is in containers and not in an object of a library's own.
    """
    handle = network.register_forward_hook(partial(_counted, counts))
    try:
        yield
    finally:
        handle.remove()


def _counted(counts: Counts | None, _: nn.Module, __: Any, returned: Any) -> Any:
    if counts is None:
        return _plain(returned, None)
    picked = counts(returned)
    chosen = {id(leaf) for leaf in pytree.tree_leaves(picked) if isinstance(leaf, Tensor)}
    kept = _plain(returned, chosen)
    found = {id(leaf) for leaf in pytree.tree_leaves(kept) if isinstance(leaf, Tensor)}
    return kept if found == chosen else _plain(picked, None)  # it may have been computed


def _plain(value: Any, chosen: Container[int] | None) -> Any:
    """The same without what is not chosen; None, or no name in a mapping, where nothing is left."""
    if isinstance(value, Tensor):
        return value if chosen is None or id(value) in chosen else None
    if isinstance(value, Mapping):
        items = {str(key): _plain(each, chosen) for key, each in value.items()}
    elif hasattr(value, "_fields"):
        items = {key: _plain(getattr(value, key), chosen) for key in value._fields}
    elif isinstance(value, tuple | list):
        inside = [_plain(each, chosen) for each in value]
        return None if all(each is None for each in inside) else inside if isinstance(value, list) else tuple(inside)
    elif isinstance(value, int | float | str):
        return value if chosen is None else None
    else:
        items = {}
    kept = {key: each for key, each in items.items() if each is not None}
    return kept or None
