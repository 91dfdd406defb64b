"""What a model takes and returns, as a saved model tells it: names, sizes and kinds of number, no values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from autoprune.plugin import Inputs

Size = Annotated[int, Field(ge=0, lt=2**31)]


class TensorForm(BaseModel):
    """One tensor of a sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: tuple[Size, ...] = Field(max_length=16)
    """Without the samples' dimension, which is the first."""
    dtype: str = Field(pattern="^[a-z]+[0-9]*$")
    """As numpy calls it."""


Forms = dict[str, TensorForm]


def named_inputs(inputs: Inputs) -> dict[str, Tensor]:
    """Inputs by keyword; those without one by their place, ``0``, ``1``."""
    return {str(place): tensor for place, tensor in enumerate(inputs.args)} | dict(inputs.kwargs)


def inputs_of(named: Mapping[str, Tensor]) -> Inputs:
    """The inputs that have these names."""
    places = sorted((name for name in named if name.isdecimal()), key=int)
    return Inputs(
        tuple(named[name] for name in places), {name: each for name, each in named.items() if name not in places}
    )


def named_outputs(returned: Any) -> dict[str, Tensor]:
    """The tensors that a model returned, by where they stand: ``logits``, ``0``, ``boxes.1``; a bare one by ``""``."""
    return dict(_found(returned, ""))


def _found(returned: Any, place: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(returned, Tensor):
        yield place, returned
        return
    if isinstance(returned, Mapping):
        inner = [(str(name), each) for name, each in returned.items()]
    elif isinstance(returned, list | tuple):
        inner = [(str(number), each) for number, each in enumerate(returned)]
    else:
        return
    for name, each in inner:
        yield from _found(each, f"{place}.{name}" if place else name)


def forms(tensors: Mapping[str, Tensor]) -> Forms:
    """Of tensors of shape (N, …)."""
    return {
        name: TensorForm(shape=tuple(tensor.shape[1:]), dtype=array_of(tensor[:0]).dtype.name)
        for name, tensor in tensors.items()
        if tensor.ndim
    }


def array_of(tensor: Tensor) -> Any:
    """As an array of numpy; bfloat16, which that does not have, as float32."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()


def output_forms(network: nn.Module, inputs: Inputs) -> Forms:
    """What a network returns for a few samples; it is left as it was."""
    modes = [(module, module.training) for module in network.modules()]
    device = next((tensor.device for tensor in network.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad():
            return forms(named_outputs(inputs.to(device).feed(network.eval())))
    finally:
        for module, mode in modes:
            module.training = mode
