"""Bytes that a forward pass holds: followed tensor by tensor, or as the allocator counts them."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from autoprune.plugin import Inputs


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations make, from when they are made until they are let go."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in pytree.tree_leaves(made):
            if isinstance(tensor, Tensor):
                self.add(tensor)
        return made

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's storage, once."""
        storage = tensor.untyped_storage()
        if (key := storage._cdata) in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def most_alive(network: nn.Module, inputs: Inputs) -> int:
    """The most bytes of activations, inputs included, that a forward pass has alive at once.

    Args:
        network: In ``eval()``.
        inputs: What it takes.
    """
    with torch.inference_mode():
        alive = _Alive((*network.parameters(), *network.buffers()))
        for tensor in inputs.tensors:
            alive.add(tensor)
        with alive:
            inputs.feed(network)
    return alive.most


def held(network: nn.Module, inputs: Inputs) -> int:
    """Bytes of parameters, buffers and inputs, each once."""
    storages = {
        storage._cdata: storage.nbytes()
        for storage in (t.untyped_storage() for t in (*network.parameters(), *network.buffers(), *inputs.tensors))
    }
    return sum(storages.values())


def most_allocated(network: nn.Module, inputs: Inputs, device: torch.device) -> int:
    """The most bytes that the device's allocator gives out in a forward pass beyond what was given out before it.

    Args:
        network: In ``eval()``, on the device.
        inputs: What it takes.
        device: Where they are.
    """
    with torch.inference_mode():
        inputs.feed(network)  # what is made once only, such as packed weights, is not of a pass
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            inputs.feed(network)
            torch.cuda.synchronize(device)
            return torch.cuda.max_memory_allocated(device) - before
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler tells on stderr that it starts
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
            inputs.feed(network)
    now = most = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]" and event.device_type() == DeviceType.CPU:
            now += event.nbytes()
            most = max(most, now)
    return most
