"""Which sizes of its inputs an exported graph may have: a trace writes down what the code computes of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from autoprune.errors import StructureError
from autoprune.plugin import Inputs
from autoprune.structure.graph.trace import evaluating

Sizes = tuple[tuple[int | None, ...], ...]
"""Of each input, the size of every dimension; None where it is free."""
_Dims = list[tuple[int, int]]
"""Number of an input, and a dimension of it."""
_SAMPLES = 2
_CLOSE = 1e-4
"""Largest deviation, relative to the largest output."""


def sizes_of(inputs: Inputs) -> Sizes:
    """Those of an example; any number of samples."""
    return tuple((None, *tensor.shape[1:]) for tensor in inputs.tensors)


def free_sizes(dense: nn.Module, graph: nn.Module, inputs: Inputs) -> tuple[Sizes, bool]:
    """The sizes that a graph must have, found by trying others: twice, half, and one more.

    Dimensions of one size may hang together, as those of tokens and their mask do: they are changed together, and each
    by itself.

    Args:
        dense: The network.
        graph: Its graph, of which nothing has been cut.
        inputs: What it was traced with.

    Returns:
        The sizes, and whether the network takes others that the graph does not.
    """
    inputs, narrower = inputs[:_SAMPLES], False
    sizes = [list(each) for each in sizes_of(inputs)]
    free: _Dims = []
    for dims in _alike(inputs):
        together, *alone = (
            [agree(dense, graph, resized) for resized in _other(inputs, some)] for some in (dims, *([d] for d in dims))
        )
        narrower = narrower or any(False in each for each in (together, *alone))
        if True in together and not any(False in each for each in (together, *alone)):
            free += dims
        else:
            free += [each for each, found in zip(dims, alone, strict=True) if True in found and False not in found]
    if len(free) > 1 and any(agree(dense, graph, resized) is False for resized in _other(inputs, free)):
        free, narrower = [], True
    for number, dim in free:
        sizes[number][dim] = None
    return tuple(map(tuple, sizes)), narrower


def resized(inputs: Inputs, sizes: Sizes) -> Iterator[Inputs]:
    """A few of the inputs with other sizes where these are free; dimensions of one size are changed together."""
    inputs = inputs[:_SAMPLES]
    for dims in _alike(inputs):
        if free := [(number, dim) for number, dim in dims if sizes[number][dim] is None]:
            yield from _other(inputs, free)


def check_sizes(given: Sequence[Tensor], sizes: Sizes) -> None:
    """Refuse inputs that a graph was not made for.

    Raises:
        StructureError: One has another size where the graph has it written down.
    """
    for tensor, size in zip(given, sizes, strict=False):
        fits = tensor.ndim == len(size) and all(s in (None, n) for s, n in zip(size, tensor.shape, strict=True))
        if not fits:
            raise StructureError(
                f"an input is of shape {_told(tensor.shape)}, but this model is the exported graph of one for "
                f"{_told(size)}, in which sizes are written down: resize its inputs, or search with an example of that "
                "size (`explain` says which sizes are free), or with `search_space.form: modules`"
            )


def _told(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if size is None else str(size) for size in shape)})"


def _alike(inputs: Inputs) -> list[_Dims]:
    """Dimensions of one size, but for the number of samples."""
    found: dict[int, _Dims] = {}
    for number, tensor in enumerate(inputs.tensors):
        for dim in range(1, tensor.ndim):
            found.setdefault(tensor.shape[dim], []).append((number, dim))
    return list(found.values())


def _other(inputs: Inputs, dims: _Dims) -> Iterator[Inputs]:
    """The inputs with other sizes along some dimensions of one size."""
    size = inputs.tensors[dims[0][0]].shape[dims[0][1]]
    for wanted in (2 * size, size // 2, size + 1):
        if wanted:
            numbers = iter(range(len(inputs.tensors)))
            yield inputs.map(lambda tensor, n=numbers, w=wanted: _resized(tensor, next(n), dims, w))  # type: ignore[misc]


def _resized(tensor: Tensor, number: int, dims: _Dims, wanted: int) -> Tensor:
    for each, dim in dims:
        if each == number:
            # What is more is the first entries again.
            index = torch.arange(wanted, device=tensor.device) % tensor.shape[dim]
            tensor = tensor.index_select(dim, index)
    return tensor


def agree(dense: nn.Module, graph: nn.Module, inputs: Inputs) -> bool | None:
    """Whether a graph gives what the network does; None where the network takes no such inputs."""
    with evaluating(dense), evaluating(graph), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the model's own
        try:
            expected = _tensors(inputs.feed(dense))
        except Exception:  # noqa: BLE001  the model's own code may raise anything
            return None
        try:
            found = _tensors(inputs.feed(graph))
        except Exception:  # noqa: BLE001  so may its graph
            return False
    return len(found) == len(expected) and all(map(_close, expected, found))


def _tensors(outputs: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _close(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape:
        return False
    scale = max(1.0, float(one.abs().max())) if one.numel() else 1.0
    return not one.numel() or bool((one.double() - other.double()).abs().max() <= _CLOSE * scale)
