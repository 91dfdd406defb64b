"""Batch norms folded into the layers before them, for passes that only predict: the same function in fewer steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from autoprune.structure.graph.operators import operator_name
from autoprune.structure.graph.trace import Traced
from autoprune.structure.surgery.copying import copied, reuse

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
# By exact type: a subclass may compute something else.
_LAYERS = frozenset((*_CONVOLUTIONS, *_TRANSPOSED, nn.Linear))
_NORMS = frozenset((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d))
_MAPS = frozenset(f"aten::conv{transposed}{d}d" for transposed in ("", "_transpose") for d in (1, 2, 3))


def foldable(network: nn.Module, traced: Traced) -> tuple[tuple[str, str], ...]:
    """Layers, each with the batch norm that alone reads its output; both are PyTorch's own and called once.

    Args:
        network: The dense network.
        traced: Its graph.
    """
    modules = dict(network.named_modules())
    pairs = []
    for norm in traced.graph.graph.nodes:
        if operator_name(norm) != "aten::batch_norm" or norm.args[3] is None:  # which takes the batch's statistics
            continue
        made = norm.args[0]
        kind, dims = operator_name(made), made.meta["val"].ndim
        # A linear layer's outputs are what a norm counts as channels where nothing lies between batch and them.
        if len(made.users) == 1 and (kind in _MAPS or (kind == "aten::linear" and dims == 2)):
            layer_name, norm_name = _owner(made, traced), _owner(norm, traced)
            if _folds(modules.get(layer_name)) and type(modules.get(norm_name)) in _NORMS:
                pairs.append((layer_name, norm_name))
    return tuple(pairs)


def _folds(layer: Any) -> bool:
    """Whether it is a layer that norms can be folded into; PyTorch does not for transposed convolutions in groups."""
    return type(layer) in _LAYERS and not (isinstance(layer, _TRANSPOSED) and layer.groups > 1)


def _owner(node: fx.Node, traced: Traced) -> str:
    """Name of the module whose parameters an operator reads; empty where others read them, too."""
    held = [each for each in node.args[1:5] if isinstance(each, fx.Node)]
    names = [traced.names.get(each.name, "") for each in held]
    owners = {name.rpartition(".")[0] for name in names}
    return owners.pop() if len(owners) == 1 and all(len(each.users) == 1 for each in held) else ""


def folded(network: nn.Module, pairs: Iterable[tuple[str, str]]) -> nn.Module:
    """A network in which batch norms are part of the layers before them; it shares all that stays as it is.

    Args:
        network: In ``eval()``; a dense network or a cut of it.
        pairs: As `foldable` gives them. Those that the network does not have, or whose layer or norm is hooked, stay.
    """
    modules = dict(network.named_modules())
    memo: dict[int, Any] = {}
    with torch.no_grad():
        for layer_name, norm_name in pairs:
            layer: Any = modules.get(layer_name)
            norm: Any = modules.get(norm_name)
            if not _folds(layer) or type(norm) not in _NORMS or _hooked(layer) or _hooked(norm):
                continue
            if isinstance(layer, nn.Linear):
                whole: nn.Module = fuse_linear_bn_eval(layer, norm)
            else:
                whole = fuse_conv_bn_eval(layer, norm, transpose=isinstance(layer, _TRANSPOSED))
            memo |= {id(layer): whole.requires_grad_(False), id(norm): nn.Identity()}
    reuse(network, set(memo), memo)
    return copied(network, memo)


def _hooked(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
