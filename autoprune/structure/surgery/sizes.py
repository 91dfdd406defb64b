"""Sizes that modules keep as attributes: the sliced shapes tell the new ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch import nn

Shapes = Mapping[str, Sequence[int]]
Resize = Callable[[nn.Module, Shapes, bool], dict[str, Any]]
_TELLING = frozenset(
    "weight running_mean in_proj_weight q_proj_weight k_proj_weight v_proj_weight weight_ih_l0 weight_hh_l0 "
    "weight_hr_l0 weight_ih weight_hh".split()
)


def telling_sizes(names: Iterable[str]) -> list[str]:
    """Of a module's own tensors those whose shapes `resized` looks at."""
    found = [name for name in names if name in _TELLING]
    return [name for name in found if name != "running_mean" or "weight" not in found]


def keeps_sizes(module: nn.Module) -> bool:
    """Whether `resized` knows the attributes of such a module."""
    return any(isinstance(module, kinds) for kinds, _ in _RESIZE)


def resized(module: nn.Module, shapes: Shapes, whole_groups: bool) -> dict[str, Any]:
    """New values of the attributes that hold a module's sizes.

    Args:
        module: The dense module.
        shapes: Its own parameters' and buffers' new shapes, by their name in the module.
        whole_groups: Whether it loses whole groups (a grouped convolution, a group norm).
    """
    for kinds, resize in _RESIZE:
        if isinstance(module, kinds):
            new = resize(module, shapes, whole_groups)
            return {name: value for name, value in new.items() if getattr(module, name, None) != value}
    return {}


def _share(module: Any, attribute: str, new: int, old: int) -> int:
    return int(getattr(module, attribute)) * new // old


def _convolution(module: Any, shapes: Shapes, whole: bool) -> dict[str, Any]:
    if "weight" not in shapes:  # it is computed from others
        return {}
    weight = shapes["weight"]
    groups = _share(module, "groups", weight[0], module.weight.shape[0]) if whole else module.groups
    if module.transposed:
        return {"in_channels": weight[0], "out_channels": weight[1] * groups, "groups": groups}
    return {"in_channels": weight[1] * groups, "out_channels": weight[0], "groups": groups}


def _linear(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"in_features": shapes["weight"][1], "out_features": shapes["weight"][0]} if "weight" in shapes else {}


def _channel_norm(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    sizes = [shapes[name][0] for name in ("weight", "running_mean") if name in shapes]
    return {"num_features": sizes[0]} if sizes else {}


def _group_norm(module: Any, shapes: Shapes, whole: bool) -> dict[str, Any]:
    if "weight" not in shapes:
        return {}
    channels = shapes["weight"][0]
    groups = _share(module, "num_groups", channels, module.num_channels) if whole else module.num_groups
    return {"num_channels": channels, "num_groups": groups}


def _layer_norm(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"normalized_shape": tuple(shapes["weight"])} if "weight" in shapes else {}


def _embedding(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"embedding_dim": shapes["weight"][1]}


def _prelu(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"num_parameters": shapes["weight"][0]}


def _recurrent(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    inputs = shapes["weight_ih_l0"][1]
    if "weight_hr_l0" in shapes:
        projected, hidden = shapes["weight_hr_l0"]
        return {"input_size": inputs, "hidden_size": hidden, "proj_size": projected}
    return {"input_size": inputs, "hidden_size": shapes["weight_hh_l0"][1]}


def _cell(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return {"input_size": shapes["weight_ih"][1], "hidden_size": shapes["weight_hh"][1]}


def _bilinear(_: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    return dict(zip(("out_features", "in1_features", "in2_features"), shapes["weight"], strict=True))


def _attention(module: Any, shapes: Shapes, __: bool) -> dict[str, Any]:
    packed = shapes.get("in_proj_weight")
    rows = packed[0] // 3 if packed is not None else shapes["q_proj_weight"][0]
    width = packed[1] if packed is not None else shapes["q_proj_weight"][1]
    sizes = {"embed_dim": width, "num_heads": rows // module.head_dim}
    if packed is not None:
        sizes |= {"kdim": width, "vdim": width}
    else:
        sizes |= {"kdim": shapes["k_proj_weight"][1], "vdim": shapes["v_proj_weight"][1]}
    # Keeps nn.TransformerEncoderLayer off its fused path, which knows no such sizes.
    return {**sizes, "_qkv_same_embed_dim": False}


_RESIZE: tuple[tuple[type | tuple[type, ...], Resize], ...] = (
    (nn.modules.conv._ConvNd, _convolution),
    (nn.Linear, _linear),
    ((nn.modules.batchnorm._NormBase,), _channel_norm),
    (nn.GroupNorm, _group_norm),
    ((nn.LayerNorm, nn.RMSNorm), _layer_norm),
    ((nn.Embedding, nn.EmbeddingBag), _embedding),
    (nn.Bilinear, _bilinear),
    (nn.PReLU, _prelu),
    (nn.RNNBase, _recurrent),
    (nn.RNNCellBase, _cell),
    (nn.MultiheadAttention, _attention),
)
