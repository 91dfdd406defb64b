"""The reference that a cut must equal: the dense network with every parameter entry of the cut units set to zero."""

from __future__ import annotations

import copy
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from autoprune.structure.surgery.copying import copied
from autoprune.structure.surgery.plan import Plan

Averages = Mapping[tuple[str, str, int], tuple[int, Tensor]]
"""Module, operator and number of its call there, to the dimension that it averages over and whether each entry along
that dimension stays, bool."""

_OPERATORS = {
    name: name for name in ("mean", "sum", "var", "std", "var_mean", "std_mean", "linalg_vector_norm", "batch_norm")
} | {"norm": "linalg_vector_norm"}
"""Name of a function of torch to the operator that it runs."""


class Masked(nn.Module):
    """A dense-sized network whose cut units are zero; norms average over the kept entries only.

    Blocks that are left out run, and what they return is replaced by what they were given.
    """

    def __init__(self, network: nn.Module, plan: Plan, averages: Averages | None = None) -> None:
        """A reference for a cut.

        Args:
            network: The dense network; left as it was.
            plan: The cut.
            averages: Norms that the network's own code computes, and what they average over; None if there are none.
        """
        super().__init__()
        changed = {*plan.kept, *plan.masks}
        named = itertools.chain(network.named_parameters(), network.named_buffers())
        # What is not masked is shared.
        memo = {id(t): t if name not in changed else copy.deepcopy(t) for name, t in named}
        self.network = copied(network, memo)
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
            for name, mask in plan.masks.items():
                tensors[name].mul_(mask.to(tensors[name].device))
        for name in plan.bypassed:
            self.network.get_submodule(name).register_forward_hook(_given)

        self._averages = averages or {}
        self._running: list[str] = []
        if self._averages:
            for name, module in self.network.named_modules():
                module.register_forward_pre_hook(partial(self._enter, name))
                module.register_forward_hook(self._leave)

    def _enter(self, name: str, *_: Any) -> None:
        self._running.append(name)

    def _leave(self, *_: Any) -> None:
        self._running.pop()

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the network's."""
        self._running.clear()
        with _KeptNorms(self._kept, self._averages, self._running):
            return self.network(*args, **kwargs)


def _given(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
    return (args[0], *[None] * (len(output) - 1)) if isinstance(output, tuple) else args[0]


class _KeptNorms(TorchFunctionMode):
    """Norms take their statistics over the kept entries.

    Layer, RMS and group norms are known by their scale, which is masked; what code computes by itself by its place.
    """

    def __init__(self, kept: Mapping[int, Tensor], averages: Averages, running: Sequence[str]) -> None:
        super().__init__()
        self._kept = kept
        self._averages = averages
        self._running = running
        self._calls: Counter[tuple[str, str]] = Counter()

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
        if func is torch._weight_norm and (dim := args[2] if len(args) > 2 else kwargs.get("dim", 0)) >= 0:
            over = [d for d in range(args[0].ndim) if d != dim]
            return func(*args, **kwargs).masked_fill(~args[0].any(over, keepdim=True), 0)  # what is masked: 0 / 0
        operator = _OPERATORS.get(getattr(func, "__name__", ""))
        if operator is not None and self._averages and args:
            key = self._running[-1] if self._running else "", operator
            average = self._averages.get((*key, self._calls[key]))
            self._calls[key] += 1
            if average is not None:
                dim, keep = average
                index = keep.nonzero().view(-1).to(args[0].device)
                result = func(args[0].index_select(dim, index), *args[1:], **kwargs)
                # A weight that is standardised keeps its size.
                return torch.zeros_like(args[0]).index_copy(dim, index, result) if operator == "batch_norm" else result
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
