"""Layers as matrices: which numbers each output reads, row by row, and where its weights are.

Shapes use: N samples, P positions of an output, R rows among the N·P, g groups, F features, O outputs of a group.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def repairable(network: nn.Module) -> dict[str, nn.Module]:
    """Layers that are one product of weights and inputs, by name: linear ones and convolutions, transposed ones, too.

    Left out are those whose weight has several owners, or is computed from other parameters.
    """
    from torch.nn.utils import parametrize

    owners: dict[int, int] = {}
    for module in network.modules():
        for parameter in module._parameters.values():
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    found = {}
    for name, module in network.named_modules():
        if _kind(module) and not parametrize.is_parametrized(module):
            weight = module._parameters.get("weight")
            if weight is not None and owners[id(weight)] == 1 and weight.is_floating_point():
                found[name] = module
    return found


def rows_of(layer: nn.Module, outputs: Tensor, index: Tensor) -> Tensor:
    """What a layer put out at some positions, (R, outputs).

    Args:
        layer: Which.
        outputs: (N, …) as it returned them.
        index: Of the N·P positions, int64 of shape (R,).
    """
    features_last = outputs if _kind(layer) == "linear" else outputs.movedim(1, -1)
    return features_last.reshape(-1, features_last.shape[-1])[index]


def positions(layer: nn.Module, outputs: Tensor) -> int:
    """How many there are in what a layer put out, N·P."""
    return outputs.numel() // outputs.shape[-1 if _kind(layer) == "linear" else 1]


def design(layer: Any, inputs: Tensor, index: Tensor) -> Tensor:
    """What the outputs at some positions are products of, (g, R, F).

    Args:
        layer: Which.
        inputs: (N, …) as it takes them.
        index: Of the N·P positions of its outputs, int64 of shape (R,).
    """
    if _kind(layer) == "linear":
        return inputs.reshape(-1, inputs.shape[-1])[index].unsqueeze(0)
    stride, dilation, kernel = layer.stride, layer.dilation, layer.kernel_size
    if layer.transposed:
        inputs, stride = _spread(layer, inputs), (1,) * len(kernel)
    else:
        inputs = _padded(layer, inputs)
    sizes = [
        (size - d * (k - 1) - 1) // s + 1
        for size, k, s, d in zip(inputs.shape[2:], kernel, stride, dilation, strict=True)
    ]
    return _patches(inputs, index, sizes, stride, dilation, kernel, layer.groups)


def weight_matrix(layer: Any) -> Tensor:
    """The weights as `design` counts features, (g, O, F), float64."""
    return _as_matrix(layer, layer.weight.detach()).double()


def support_matrix(layer: Any, mask: Tensor) -> Tensor:
    """A bool for each weight, in the same shape."""
    return _as_matrix(layer, mask)


def put(layer: Any, weight: Tensor) -> None:
    """Write weights (g, O, F) back into a layer."""
    own = layer.weight
    kind = _kind(layer)
    if kind == "linear":
        value = weight[0].T if _turned(layer) else weight[0]
    else:
        g, outputs, _ = weight.shape
        value = weight.reshape(g, outputs, -1, *layer.kernel_size)
        if layer.transposed:
            value = value.transpose(1, 2).flip(tuple(range(3, value.dim()))).reshape(own.shape)
        else:
            value = value.reshape(own.shape)
    own.copy_(value.to(own.dtype))


def _kind(module: Any) -> str:
    from torch import nn
    from torch.nn.modules.conv import _ConvNd

    if isinstance(module, nn.Linear) or _turned(module):
        return "linear"
    return "convolution" if isinstance(module, _ConvNd) else ""


def _turned(module: Any) -> bool:
    """Whether it is a linear layer whose weight is (inputs, outputs), as GPT-2's are."""
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and hasattr(module, "nx")


def _as_matrix(layer: Any, weight: Tensor) -> Tensor:
    if _kind(layer) == "linear":
        return (weight.T if _turned(layer) else weight).unsqueeze(0)
    if layer.transposed:  # (g · inputs, outputs, k…), and taps in the other order
        value = weight.reshape(layer.groups, -1, *weight.shape[1:]).transpose(1, 2)
        value = value.flip(tuple(range(3, value.dim())))
        return value.reshape(layer.groups, value.shape[1], -1)
    return weight.reshape(layer.groups, weight.shape[0] // layer.groups, -1)


def _padded(layer: Any, inputs: Tensor) -> Tensor:
    from torch.nn.functional import pad

    if not any(layer._reversed_padding_repeated_twice):
        return inputs
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)


def _spread(layer: Any, inputs: Tensor) -> Tensor:
    """The input of the plain convolution that a transposed one is: zeros between its positions and around them."""
    from torch.nn.functional import pad

    sizes = [(size - 1) * s + 1 for size, s in zip(inputs.shape[2:], layer.stride, strict=True)]
    wide = inputs.new_zeros((*inputs.shape[:2], *sizes))
    wide[(slice(None), slice(None), *(slice(None, None, s) for s in layer.stride))] = inputs
    edges: list[int] = []
    pieces = zip(layer.kernel_size, layer.dilation, layer.padding, layer.output_padding, strict=True)
    for k, d, p, o in reversed(list(pieces)):
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
    rest, place = index, torch.zeros_like(index)
    corner = []
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
