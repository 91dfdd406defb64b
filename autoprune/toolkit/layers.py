"""Layers as matrices: which numbers each output reads, row by row, and where its weights are.

What is asked for a layer takes its module or, where there is none, the `Product` that code makes with its weights.

Shapes use: N samples, P positions of an output, R rows among the N·P, g groups, F features, O outputs of a group.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class Product:
    """Inputs times weights, plus a constant: what a linear layer or a convolution computes, and code without one."""

    weight: Tensor
    """As `torch.nn.functional.linear` and its convolutions take it."""
    bias: Tensor | None = None
    kind: Literal["linear", "turned", "convolution"] = "linear"
    """``turned`` is linear with a weight of shape (inputs, outputs)."""
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] = ()
    """Before and after, for each dimension in space; of a transposed convolution what is left out of its outputs."""
    padding_mode: str = "constant"
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    groups: int = 1
    transposed: bool = False

    @classmethod
    def of(cls, layer: nn.Module | Product) -> Product:
        """That of a linear layer or a convolution.

        Raises:
            TypeError: The module is none.
        """
        return layer if isinstance(layer, Product) else _of_module(layer)

    @property
    def outputs(self) -> int:
        """How many it makes at a position."""
        if self.kind == "turned":
            return self.weight.shape[1]
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    @property
    def features(self) -> int:
        """How many numbers all outputs of a position read, g·F."""
        if self.kind == "turned":
            return self.weight.shape[0]
        if self.transposed:
            return self.weight.shape[0] * math.prod(self.weight.shape[2:])
        return self.groups * math.prod(self.weight.shape[1:])


def owners(network: nn.Module) -> Counter[int]:
    """How many modules have a parameter as their own, by its identity."""
    return Counter(id(parameter) for module in network.modules() for parameter in module._parameters.values())


def repairable(network: nn.Module) -> dict[str, nn.Module]:
    """Layers that are one product of weights and inputs, by name: linear ones and convolutions, transposed ones, too.

    Left out are those whose weight has several owners, or is computed from other parameters.
    """
    from torch.nn.utils import parametrize

    counts = owners(network)
    found = {}
    for name, module in network.named_modules():
        if _kind(module) and not parametrize.is_parametrized(module):
            weight = module._parameters.get("weight")
            if weight is not None and counts[id(weight)] == 1 and weight.is_floating_point():
                found[name] = module
    return found


def rows_of(layer: nn.Module | Product, outputs: Tensor, index: Tensor) -> Tensor:
    """What a layer put out at some positions, (R, outputs).

    Args:
        layer: Which.
        outputs: (N, …) as it returned them.
        index: Of the N·P positions, int64 of shape (R,).
    """
    features_last = outputs.movedim(1, -1) if Product.of(layer).kind == "convolution" else outputs
    return features_last.reshape(-1, features_last.shape[-1])[index]


def positions(layer: nn.Module | Product, outputs: Tensor) -> int:
    """How many there are in what a layer put out, N·P."""
    return outputs.numel() // outputs.shape[1 if Product.of(layer).kind == "convolution" else -1]


def places(layer: nn.Module | Product, inputs: Tensor) -> int:
    """How many positions there will be in what a layer puts out for inputs (N, …), N·P."""
    product = Product.of(layer)
    if product.kind != "convolution":
        return inputs.numel() // inputs.shape[-1]
    space = zip(inputs.shape[2:], product.weight.shape[2:], product.stride, product.padding, strict=True)
    more = zip(product.dilation, product.output_padding or (0,) * inputs.dim(), strict=False)
    count = len(inputs)
    for (size, k, s, (before, after)), (d, extra) in zip(space, more, strict=True):
        reach = d * (k - 1) + 1
        if product.transposed:
            count *= (size - 1) * s + reach - before - after + extra
        else:
            count *= (size + before + after - reach) // s + 1
    return count


def design(layer: nn.Module | Product, inputs: Tensor, index: Tensor) -> Tensor:
    """What the outputs at some positions are products of, (g, R, F).

    Args:
        layer: Which.
        inputs: (N, …) as it takes them.
        index: Of the N·P positions of its outputs, int64 of shape (R,).
    """
    product = Product.of(layer)
    if product.kind != "convolution":
        return inputs.reshape(-1, inputs.shape[-1])[index].unsqueeze(0)
    stride, dilation, kernel = product.stride, product.dilation, tuple(product.weight.shape[2:])
    if product.transposed:
        inputs, stride = _spread(product, inputs), (1,) * len(kernel)
    else:
        inputs = _padded(product, inputs)
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(inputs.shape[2:], kernel, stride, dilation, strict=True)
    ]
    return _patches(inputs, index, sizes, stride, dilation, kernel, product.groups)


def weight_matrix(layer: nn.Module | Product) -> Tensor:
    """The weights as `design` counts features, (g, O, F), float64."""
    product = Product.of(layer)
    return _as_matrix(product, product.weight.detach()).double()


def support_matrix(layer: nn.Module | Product, mask: Tensor) -> Tensor:
    """A bool for each weight, in the same shape."""
    return _as_matrix(Product.of(layer), mask)


def put(layer: nn.Module | Product, weight: Tensor) -> None:
    """Write weights (g, O, F) back into a layer."""
    product = Product.of(layer)
    own = product.weight
    if product.kind != "convolution":
        value = weight[0].T if product.kind == "turned" else weight[0]
    else:
        g, outputs, _ = weight.shape
        value = weight.reshape(g, outputs, -1, *own.shape[2:])
        if product.transposed:
            value = value.transpose(1, 2).flip(tuple(range(3, value.dim())))
        value = value.reshape(own.shape)
    own.copy_(value.to(own.dtype))


def _kind(module: Any) -> str:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    if isinstance(module, nn.Linear):
        return "linear"
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf") and hasattr(module, "nx"):  # GPT-2's
        return "turned"
    return "convolution" if isinstance(module, _ConvNd) else ""


def _of_module(layer: Any) -> Product:
    kind = _kind(layer)
    if kind in ("linear", "turned"):
        return Product(layer.weight, layer.bias, "turned" if kind == "turned" else "linear")
    if not kind:
        raise TypeError(f"{type(layer).__name__} is neither a linear layer nor a convolution")
    twice = layer._reversed_padding_repeated_twice  # for the last dimension first, as torch.nn.functional.pad takes it
    padding = tuple((int(a), int(b)) for a, b in zip(twice[-2::-2], twice[::-2], strict=True))
    return Product(
        layer.weight,
        layer.bias,
        "convolution",
        layer.stride,
        padding,
        "constant" if layer.padding_mode == "zeros" else layer.padding_mode,
        layer.dilation,
        layer.output_padding,
        layer.groups,
        layer.transposed,
    )


def _as_matrix(product: Product, weight: Tensor) -> Tensor:
    if product.kind != "convolution":
        return (weight.T if product.kind == "turned" else weight).unsqueeze(0)
    if product.transposed:  # (g · inputs, outputs, k…), and taps in the other order
        value = weight.reshape(product.groups, -1, *weight.shape[1:]).transpose(1, 2)
        value = value.flip(tuple(range(3, value.dim())))
        return value.reshape(product.groups, value.shape[1], -1)
    return weight.reshape(product.groups, weight.shape[0] // product.groups, -1)


def _padded(product: Product, inputs: Tensor) -> Tensor:
    from torch.nn.functional import pad

    edges = [each for pair in reversed(product.padding) for each in pair]
    return pad(inputs, edges, mode=product.padding_mode) if any(edges) else inputs


def _spread(product: Product, inputs: Tensor) -> Tensor:
    """The input of the plain convolution that a transposed one is: zeros between its positions and around them."""
    from torch.nn.functional import pad

    sizes = [(size - 1) * s + 1 for size, s in zip(inputs.shape[2:], product.stride, strict=True)]
    wide = inputs.new_zeros((*inputs.shape[:2], *sizes))
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in product.stride))] = inputs
    edges: list[int] = []
    kernel = product.weight.shape[2:]
    pieces = zip(kernel, product.dilation, product.padding, product.output_padding, strict=True)
    for k, d, (p, _), o in reversed(list(pieces)):
        edges += [d * (k - 1) - p, d * (k - 1) - p + o]
    return pad(wide, edges)


def _patches(
    inputs: Tensor,
    index: Tensor,
    sizes: list[int],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    kernel: tuple[int, ...],
    groups: int,
) -> Tensor:
    """What a convolution sees at some of its output positions, (g, R, F), features in the order of its weight."""
    import torch

    spatial = inputs.shape[2:]
    flat = inputs.movedim(1, -1).reshape(-1, inputs.shape[1])  # a place's channels lie together
    rest, corner = index, []
    for size in reversed(sizes):
        corner.append(rest % size)
        rest = rest // size
    corner.reverse()
    place = rest  # the sample
    taps = torch.zeros(1, dtype=torch.int64, device=index.device)
    for at, size, s, d, k in zip(corner, spatial, stride, dilation, kernel, strict=True):
        place = place * size + at * s
        taps = (taps.unsqueeze(1) * size + torch.arange(k, device=index.device) * d).flatten()
    seen = flat[(place.unsqueeze(1) + taps).flatten()]  # (R · taps, C)
    seen = seen.reshape(len(index), math.prod(kernel), groups, -1)
    return seen.permute(2, 0, 3, 1).reshape(groups, len(index), -1)
