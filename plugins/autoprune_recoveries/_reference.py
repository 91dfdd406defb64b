"""The dense network's outputs, which repaired layers are fitted to: recorded once per study and worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from autoprune.toolkit.layers import positions, repairable, rows_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from autoprune.plugin import Inputs, PruneContext
    from autoprune_recoveries._dataflow import Tap, Way

_SEED = 0
_BYTES = 2**29
"""What all samples' activations at a time may take, roughly: with large images fewer samples are used."""
_LIVE = 4
"""Activations as large as the largest that live at a time."""


@dataclass(frozen=True)
class Layer:
    """What is known of a layer from the dense network's run."""

    way: Way
    index: Tensor
    """Its fixed positions, (R,)."""
    count: int
    """Of all positions."""
    outputs: Tensor
    """(R, all of its outputs)."""
    shortcut: Tensor | None
    """What was added to them, (R, all of its outputs)."""


@dataclass(frozen=True)
class Reference:
    """The dense network's outputs at fixed positions, of fixed samples."""

    inputs: Inputs
    layers: Mapping[str, Layer]
    """In the order of execution."""

    @classmethod
    def of(cls, ctx: PruneContext, samples: int, rows: int) -> Reference:
        import torch

        from autoprune_recoveries._dataflow import ways

        train = ctx.data.train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(_SEED))
        predictor = ctx.predictor(ctx.dense)
        few = train.fetch(order[:2])[0].to(ctx.device)
        found = ways(ctx.dense, repairable(ctx.dense), lambda: few.feed(predictor))
        largest = _largest(ctx.dense, lambda: few.feed(predictor)) // len(few)
        count = max(8, min(samples, len(train), _BYTES // max(1, _LIVE * largest)))
        inputs = train.fetch(order[:count])[0].to(ctx.device)
        record = _Record(ctx.dense, found, rows)
        with torch.no_grad(), record.hooked():
            inputs.feed(predictor)
        return cls(inputs, {name: record.layers[name] for name in found if name in record.layers})


def _largest(network: nn.Module, run: Any) -> int:
    """Bytes of the largest tensor that a module gives."""
    import torch

    sizes = [1]

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, torch.Tensor):
            sizes.append(output.nbytes)

    hooks = [module.register_forward_hook(hook) for module in network.modules()]
    try:
        with torch.no_grad():
            run()
    finally:
        for each in hooks:
            each.remove()
    return max(sizes)


@contextmanager
def hooked(
    modules: Mapping[str, nn.Module],
    found: Mapping[str, Way],
    *,
    layer: Callable[[str, nn.Module], RemovableHandle],
    shortcut: Callable[[str, Tensor], None],
) -> Iterator[None]:
    """Hooks on layers, and on what will be added to their outputs.

    Args:
        modules: Of a network, by name.
        found: The layers' ways.
        layer: Hangs a hook on one.
        shortcut: Gets a layer's name and, before that layer runs, what will be added to it.
    """
    hooks = [layer(name, modules[name]) for name in found]
    for name, way in found.items():
        if way.shortcut is not None and way.shortcut.module in modules:
            hooks.append(_watch(modules[way.shortcut.module], way.shortcut, partial(shortcut, name)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _watch(module: nn.Module, tap: Tap, keep: Any) -> Any:
    if tap.given:
        return module.register_forward_hook(lambda _, __, output: keep(output))
    return module.register_forward_pre_hook(
        lambda _, args, kwargs: keep(next(iter((*args, *kwargs.values())))), with_kwargs=True
    )


class _Record:
    """Keeps a network's outputs at random positions."""

    def __init__(self, network: nn.Module, found: Mapping[str, Way], rows: int) -> None:
        self._network = network
        self._found = found
        self._rows = rows
        self._generator: Any = None
        self._shortcuts: dict[str, Tensor] = {}
        self.layers: dict[str, Layer] = {}

    def hooked(self) -> AbstractContextManager[None]:
        import torch

        self._generator = torch.Generator().manual_seed(_SEED)
        modules = dict(self._network.named_modules())
        return hooked(modules, self._found, layer=self._hang, shortcut=self._keep)

    def _keep(self, name: str, value: Tensor) -> None:
        # Its positions are drawn with the layer, later; till then the tensor itself is kept as it is now.
        self._shortcuts[name] = value.clone()

    def _hang(self, name: str, layer: nn.Module) -> RemovableHandle:
        return layer.register_forward_hook(self._layer(name))

    def _layer(self, name: str) -> Any:
        import torch

        def hook(layer: nn.Module, _: Any, output: Tensor) -> None:
            count = positions(layer, output)
            index = torch.randperm(count, generator=self._generator)[: self._rows].to(output.device)
            shortcut = self._shortcuts.pop(name, None)
            self.layers[name] = Layer(
                way=self._found[name],
                index=index,
                count=count,
                outputs=rows_of(layer, output, index),
                shortcut=None if shortcut is None else rows_of(layer, shortcut, index),
            )

        return hook
