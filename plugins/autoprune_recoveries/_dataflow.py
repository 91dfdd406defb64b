"""What becomes of a layer's output, seen in one run on a few samples: the norm behind it, and what is added to it."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from torch import Tensor, nn

_ADDITIONS = {"add", "__add__", "__radd__", "__iadd__", "add_"}


@dataclass(frozen=True)
class Tap:
    """Where a tensor can be seen: what a module takes or gives."""

    module: str
    given: bool
    """What it gives, else what it takes first."""


@dataclass(frozen=True)
class Way:
    """How a layer's output goes on."""

    norm: str | None = None
    """The batch norm that alone reads it."""
    shortcut: Tap | None = None
    """What is added to it, behind that norm if there is one, and is there before the layer runs."""


def ways(network: nn.Module, layers: Iterable[str], run: Callable[[], Any]) -> dict[str, Way]:
    """The ways of the layers that run exactly once, in the order of execution.

    Args:
        network: In ``eval()``.
        layers: Names of its modules.
        run: Runs it once, on a few samples.
    """
    import torch

    watch = _Watch(network, set(layers))
    try:
        with torch.no_grad(), watch:
            run()
    finally:
        watch.close()
    return watch.ways()


@dataclass
class _Seen:
    """A tensor that a module took or gave."""

    tap: Tap
    time: int
    reference: weakref.ref[Tensor]
    value: Tensor
    """As it was then: code may change a tensor in place."""


class _Watch(TorchFunctionMode):
    """Knows tensors by identity, from module to module."""

    def __init__(self, network: nn.Module, layers: set[str]) -> None:
        super().__init__()
        self._layers = layers
        self._time = 0
        self._seen: dict[int, list[_Seen]] = {}
        self._ran: dict[str, list[int]] = {}
        self._norm_of: dict[str, str] = {}
        self._added: dict[str, Tap] = {}
        self._hooks = []
        for name, module in network.named_modules():
            self._hooks.append(module.register_forward_pre_hook(self._before(name), with_kwargs=True))
            self._hooks.append(module.register_forward_hook(self._after(name, module)))

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def ways(self) -> dict[str, Way]:
        once = {name: times[0] for name, times in self._ran.items() if len(times) == 1}
        return {
            name: Way(self._norm_of.get(name), self._added.get(name)) for name in sorted(once, key=once.__getitem__)
        }

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        import torch

        if getattr(func, "__name__", "") in _ADDITIONS and len(args) == 2 and not kwargs:
            one, other = args
            if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.shape == other.shape:
                self._note_sum(one, other)
                self._note_sum(other, one)
        return func(*args, **(kwargs or {}))

    def _note_sum(self, branch: Tensor, other: Tensor) -> None:
        """If the branch is as a layer, or its norm, gave it: what is added that was there before the layer ran."""
        made = self._latest(branch)
        if made is None or not made.tap.given:
            return
        layer = next((name for name, norm in self._norm_of.items() if norm == made.tap.module), made.tap.module)
        if layer not in self._layers or layer not in self._ran:
            return
        found = self._latest(other, before=self._ran[layer][-1])
        if found is not None:
            self._added.setdefault(layer, found.tap)

    def _latest(self, tensor: Tensor, before: int | None = None) -> _Seen | None:
        """Where it was seen last, the same object with the same values."""
        import torch

        for seen in reversed(self._seen.get(id(tensor), [])):
            if seen.reference() is tensor and (before is None or seen.time < before):
                same = seen.value.shape == tensor.shape and torch.equal(seen.value, tensor)
                return seen if same else None
        return None

    def _before(self, name: str) -> Callable[..., None]:
        def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            first = next(iter((*args, *kwargs.values())), None)
            self._note(Tap(name, given=False), first)
            if name in self._layers:
                self._ran.setdefault(name, []).append(self._time)

        return hook

    def _after(self, name: str, module: nn.Module) -> Callable[..., None]:
        from torch.nn.modules.batchnorm import _BatchNorm

        def hook(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if isinstance(module, _BatchNorm) and args and module.track_running_stats:
                made = self._maker(args[0])
                if made is not None:
                    self._norm_of[made] = name
            self._note(Tap(name, given=True), output)

        return hook

    def _maker(self, tensor: Tensor) -> str | None:
        """The layer that gave a tensor, untouched since."""
        for seen in reversed(self._seen.get(id(tensor), [])):
            if seen.reference() is tensor and seen.tap.given and seen.tap.module in self._layers:
                return seen.tap.module
        return None

    def _note(self, tap: Tap, value: Any) -> None:
        import torch

        self._time += 1
        if isinstance(value, torch.Tensor) and value.is_floating_point():
            with torch._C.DisableTorchFunction():
                seen = _Seen(tap, self._time, weakref.ref(value), value.clone())
            self._seen.setdefault(id(value), []).append(seen)
