"""Finds out when a component changed a network that is not its own, and puts the dense one back."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from autoprune.errors import StudyError, TrialError

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HELD = ("_parameters", "_buffers", "_modules", *_HOOKS)
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_NUMPYS = frozenset({torch.float32, torch.float64, torch.int64, torch.int32, torch.uint8, torch.int8, torch.bool})
_FAR = 1_000_003
"""What a column counts more than a row, so that no step across makes up for one down."""
_MOST_NAMED = 3


class Watched:
    """A network as it has to stay: its tensors bit by bit, its modules and their hooks.

    Buffers that no saved model has do not count: those are a model's own notes, such as positions it has computed.
    """

    def __init__(self, network: nn.Module, what: str, reload: Callable[[], nn.Module] | None = None) -> None:
        """Take down how it is.

        Args:
            network: On its device.
            what: It, in words: ``the dense network``.
            reload: Makes it once more, from where its weights come from, for `restore`: a copy that is kept for what
                nobody should do would take its memory.
        """
        self.network = network
        self._what = what
        self._reload = reload
        self._modules = {name: _State.of(module) for name, module in network.named_modules()}
        self._tensors = _tensors(network)

    def check(self) -> None:
        """Compare. Modes are put back in silence: leaving it in ``train()`` does no harm.

        Raises:
            TrialError: It was changed.
        """
        self._reset_modes()
        if changes := self._changes():
            raise TrialError(f"changed {self._what} ({_listed(changes)})")

    def restore(self) -> None:
        """Put it back, if it was changed.

        Raises:
            StudyError: It cannot be made once more as it was, so that no later trial would be right.
        """
        self._reset_modes()
        if not (changes := self._changes()):
            return
        if self._reload is not None:
            self._put_back(self._reload())
        if self._changes():
            raise StudyError(f"a component changed {self._what} ({_listed(changes)}), which cannot be loaded again")

    def _reset_modes(self) -> None:
        for state in self._modules.values():
            vars(state.module)["training"] = state.training  # past nn.Module's own slow way

    def _changes(self) -> list[str]:
        modules, tensors = dict(self.network.named_modules()), _tensors(self.network)
        found = [f"{name} is gone" for name in self._modules if name not in modules]
        found += [f"{name} is new" for name in modules if name not in self._modules]
        for name, state in self._modules.items():
            if name in modules and (change := state.change(modules[name])):
                found.append(f"{name or 'the network'} {change}")
        return found + [name for name in {**self._tensors, **tensors} if self._tensors.get(name) != tensors.get(name)]

    def _put_back(self, source: nn.Module) -> None:
        for state in self._modules.values():
            state.put_back()
        values = dict(_named(source))
        for name, tensor in _named(self.network):
            if name in values:
                *_, device = self._tensors[name]
                tensor.data = values[name].detach().to(device, copy=True)


@dataclass(frozen=True)
class _State:
    """How one module was."""

    module: nn.Module
    kind: type[nn.Module]
    training: bool
    forward: Any
    """What was put in place of its class's, or None."""
    held: tuple[dict[str, Any], ...]
    """What its dictionaries of `_HELD` held."""

    @classmethod
    def of(cls, module: nn.Module) -> _State:
        own = vars(module)
        return cls(module, type(module), module.training, own.get("forward"), tuple(dict(own[name]) for name in _HELD))

    def change(self, module: nn.Module) -> str:
        """What is different about the module of its name, in words; empty if nothing."""
        if type(module) is not self.kind:
            return f"is a {type(module).__name__}"
        own = vars(module)
        if own.get("forward") is not self.forward:
            return "has another forward"
        before = self.held[-len(_HOOKS) :]
        if any(len(own[name]) != len(hooks) for name, hooks in zip(_HOOKS, before, strict=True)):
            return "has other hooks"
        return ""

    def put_back(self) -> None:
        own = vars(self.module)
        self.module.__class__ = self.kind
        own["training"] = self.training
        if self.forward is None:
            own.pop("forward", None)
        else:
            own["forward"] = self.forward
        for name, held in zip(_HELD, self.held, strict=True):
            own[name].clear()
            own[name].update(held)


def _named(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers that are saved."""
    for prefix, module in network.named_modules():
        unsaved = module._non_persistent_buffers_set
        for held in (module._parameters, module._buffers):
            for name, tensor in held.items():
                if tensor is not None and name not in unsaved:
                    yield f"{prefix}.{name}" if prefix else name, tensor


def _tensors(network: nn.Module) -> dict[str, tuple[int, torch.dtype, torch.Size, torch.device]]:
    """Checksum, dtype, shape and device of every tensor."""
    named = dict(_named(network))
    sums = _checksums(list(named.values()))
    return {
        name: (checksum, tensor.dtype, tensor.shape, tensor.device)
        for (name, tensor), checksum in zip(named.items(), sums, strict=True)
    }


def _checksums(tensors: Sequence[Tensor]) -> list[int]:
    """Of the bits, so that NaN equals NaN; entries that change places change them, too."""
    sums: list[int | Tensor] = []
    for tensor in tensors:
        if tensor.layout is not torch.strided or tensor.is_quantized:
            sums.append(0)
        elif tensor.dtype in _NUMPYS and tensor.is_cpu and tensor.is_contiguous():  # nearly all, in half the time
            sums.append(zlib.crc32(tensor.detach().numpy().data))
        else:
            bits = tensor.detach().resolve_conj()
            bits = (torch.view_as_real(bits) if bits.is_complex() else bits).view(_INTEGERS[bits.real.element_size()])
            sums.append(zlib.crc32(bits.contiguous().numpy().data) if bits.is_cpu else _weighted(bits))
    there = [value for value in sums if isinstance(value, Tensor)]
    fetched = iter(torch.stack(there).tolist() if there else ())  # once, for all of them
    return [next(fetched) if isinstance(value, Tensor) else value for value in sums]


def _weighted(bits: Tensor) -> Tensor:
    """Sum of integers, each by its place among the rows and among the columns, modulo 2⁶⁴; stays on the device."""
    rows = bits.reshape(bits.shape[0] if bits.dim() and bits.numel() else 1, -1)
    total = torch.zeros((), dtype=torch.int64, device=bits.device)
    for dim, factor in ((0, _FAR), (1, 1)):
        sums = rows.sum(dim, dtype=torch.int64)
        total = total + factor * (sums * (2 * torch.arange(len(sums), device=bits.device) + 1)).sum()
    return total


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
