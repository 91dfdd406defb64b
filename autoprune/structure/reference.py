"""The reference that a cut must equal: the dense network with every parameter entry of the cut units set to zero."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from autoprune.structure.cut import Plan


class Masked(nn.Module):
    """A dense-sized network whose cut units are zero; norms average over the kept entries only."""

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        tensors = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        self._kept: dict[int, Tensor] = {}
        with torch.no_grad():
            for name, dims in plan.kept.items():
                tensor = tensors[name]
                for dim, index in dims.items():
                    mask = torch.zeros(tensor.shape[dim], dtype=torch.bool, device=tensor.device)
                    mask[index.to(tensor.device)] = True
                    shape = [len(mask) if d == dim else 1 for d in range(tensor.ndim)]
                    tensor.mul_(mask.view(shape))
                    if tensor.ndim == 1:
                        self._kept[id(tensor)] = mask

    def forward(self, *inputs: Any) -> Any:
        """As the network's."""
        with _KeptNorms(self._kept):
            return self.network(*inputs)


class _KeptNorms(TorchFunctionMode):
    """Layer, RMS and group norms whose scale is masked take their statistics over the kept entries."""

    def __init__(self, kept: Mapping[int, Tensor]) -> None:
        super().__init__()
        self._kept = kept

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (functional.layer_norm, functional.rms_norm, functional.group_norm):
            size = "num_groups" if func is functional.group_norm else "normalized_shape"
            rest = ["eps"] if func is functional.rms_norm else ["bias", "eps"]
            names = ["input", size, "weight", *rest]
            call = dict(zip(names, args, strict=False)) | kwargs
            mask = self._kept.get(id(call.get("weight")))
            if mask is not None and not bool(mask.all()):
                return _norm(func, mask=mask, **call)
        return func(*args, **kwargs)


def _norm(
    func: Any,
    *,
    mask: Tensor,
    input: Tensor,  # noqa: A002  torch's own name
    weight: Tensor,
    bias: Tensor | None = None,
    eps: float | None = None,
    normalized_shape: Any = None,  # noqa: ARG001  the mask has its shape
    num_groups: int = 1,
) -> Tensor:
    x = input
    if func is functional.group_norm:
        x = x.movedim(1, -1)
    blocks = x.reshape(*x.shape[:-1], num_groups, -1)
    keep = mask.view(num_groups, -1)
    # Statistics over a block's kept channels, for group norm over all positions of the sample too.
    over = (*range(1, blocks.ndim - 2), -1) if func is functional.group_norm else (-1,)
    positions = blocks[..., 0].numel() // (blocks.shape[0] * num_groups) if func is functional.group_norm else 1
    count = (keep.sum(-1, keepdim=True) * positions).clamp(min=1).to(blocks.dtype)
    mean = torch.zeros((), dtype=blocks.dtype, device=blocks.device)
    if func is not functional.rms_norm:
        mean = (blocks * keep).sum(over, keepdim=True) / count
    variance = (((blocks - mean) * keep) ** 2).sum(over, keepdim=True) / count
    if eps is None:
        eps = torch.finfo(x.dtype).eps
    normal: Tensor = ((blocks - mean) * torch.rsqrt(variance + eps)).flatten(-2)
    result: Tensor = normal * weight + (0 if bias is None else bias)
    return result.movedim(-1, 1) if func is functional.group_norm else result
