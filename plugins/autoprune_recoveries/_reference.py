"""The dense network's outputs, which repaired layers are fitted to: recorded once per study and worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from autoprune import StructureError
from autoprune.toolkit.layers import positions, rows_of
from autoprune_recoveries._dataflow import NORMS, Found, Tap, Way, ways
from autoprune_recoveries._products import Call, Watch, called
from autoprune_recoveries._recurrent import Known, Roll, known

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from autoprune.plugin import Inputs, PruneContext, Pruned

_SEED = 0
_BYTES = 2**29
"""What all samples' activations at a time may take, roughly: with large images fewer samples are used."""
_LIVE = 4
"""Activations as large as the largest that live at a time."""
_NUMBERS = 2**25
"""Of one layer's rows, inputs and all: wide layers are fitted on fewer rows."""
_TARGETS = 2**29
"""Bytes of all layers' outputs that are kept: deep networks are fitted on fewer rows."""
_FEW = 64
"""Rows that a layer has at least."""
_PLENTY = 2
"""Rows for each feature below which a fit may follow chance."""


@dataclass(frozen=True)
class Layer:
    """What is known of a layer from the dense network's run."""

    way: Way
    index: Tensor
    """Its fixed positions, ascending, (R,): those of the first samples first."""
    count: int
    """Of all positions."""
    outputs: Tensor
    """(R, all of its outputs)."""
    shortcut: Tensor | None
    """What was added to them, (R, all of its outputs)."""
    features_last: bool
    """Whether its outputs are the last dimension of what it gives, else the second."""
    few: bool
    """Whether a fit to its rows may follow chance."""
    shared: bool
    """Whether it runs several times; what is known of it is of the first time."""


@dataclass(frozen=True)
class Reference:
    """The dense network's outputs at fixed positions, of fixed samples."""

    inputs: Inputs
    layers: Mapping[str, Layer]
    """In the order of execution."""
    recurrent: Mapping[str, list[Known]]
    """Recurrent layers that run once."""
    others: Tensor
    """Numbers of the train samples that are not used, in random order."""

    @classmethod
    def of(cls, ctx: PruneContext, samples: int, rows: int) -> Reference:
        """Run the dense network, in the form that pruned networks have: its modules, or its exported graph."""
        import torch

        network = ctx.start().network.to(ctx.device)
        train = ctx.data.train
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(_SEED))
        predictor = ctx.predictor(network)
        few = train.fetch(order[:2])[0].to(ctx.device)
        found = ways(network, lambda: few.feed(predictor))
        largest = _largest(network, lambda: few.feed(predictor)) // len(few)
        count = max(8, min(samples, len(train), _BYTES // max(1, _LIVE * largest)))
        inputs = train.fetch(order[:count])[0].to(ctx.device)
        record = _Record(network, found, len(inputs) / len(few), rows)
        with torch.no_grad(), record:
            inputs.feed(predictor)
        layers = {name: record.layers[name] for name in found if name in record.layers}
        recurrent = {name: each for name, each in record.recurrent.items() if each}
        return cls(inputs, layers, recurrent, order[count:])

    @property
    def few(self) -> bool:
        """Whether there is a layer with so few rows that its fit may follow chance."""
        return any(layer.few for layer in self.layers.values())

    @property
    def shared(self) -> bool:
        """Whether there is a layer that runs several times."""
        return any(layer.shared for layer in self.layers.values())

    def once(self) -> Self:
        """Only of the layers that run once."""
        return replace(self, layers={name: layer for name, layer in self.layers.items() if not layer.shared})

    def kept(self, ctx: PruneContext, pruned: Pruned) -> dict[str, Tensor]:
        """Layer to its outputs that stayed, (O,); layers whose outputs no cut counts are left out."""
        found = {}
        modules = {name for name, _ in ctx.dense.named_modules()}
        for name in (*self.layers, *self.recurrent):
            if name in modules:
                with suppress(StructureError):
                    found[name] = ctx.rows(pruned, name).to(ctx.device)
            else:  # the weight of one that has several
                found[name] = _rows(ctx, pruned, name, self.layers[name].outputs.shape[1]).to(ctx.device)
        return found


def _rows(ctx: PruneContext, pruned: Pruned, parameter: str, outputs: int) -> Tensor:
    import torch

    stays = torch.ones(outputs, dtype=torch.bool)
    for group in ctx.groups:
        if group.name not in pruned.kept:
            continue
        for part in group.slices:
            if part.parameter == parameter and part.role == "output":
                gone = torch.ones(group.units, dtype=torch.bool)
                gone[pruned.kept[group.name].cpu()] = False
                index = part.index.cpu()[gone].flatten()
                stays[index[index < outputs]] = False
    return stays.nonzero().view(-1)


class _Largest(Watch):
    """Bytes of the largest tensor that a function gives."""

    bytes = 1

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        import torch

        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not isinstance(result, torch.nn.Parameter):
            self.bytes = max(self.bytes, result.nbytes)
        return result


def _largest(network: nn.Module, run: Callable[[], Any]) -> int:
    import torch

    watch = _Largest(network)
    with torch.no_grad(), watch:
        run()
    return watch.bytes


class Following(Watch):
    """Sees layers, and beforehand what will be added to their outputs."""

    def __init__(self, network: nn.Module, found: Mapping[str, Way]) -> None:
        """Of a network.

        Args:
            network: Which.
            found: The layers' ways.
        """
        super().__init__(network)
        self._layers: dict[Tap, list[str]] = {}
        for layer, way in found.items():
            if way.shortcut is not None:
                self._layers.setdefault(way.shortcut, []).append(layer)
        self._hooks: list[RemovableHandle] = []
        tensors = [*network.named_parameters(), *network.named_buffers()]
        self._owners = {id(tensor): name.rpartition(".")[0] for name, tensor in tensors}

    def shortcut(self, layer: str, value: Tensor) -> None:
        """What will be added to a layer's outputs, before it runs."""

    def __enter__(self) -> Any:
        """Begin to see."""
        modules = dict(self._network.named_modules())
        for tap in self._layers:
            if tap.module not in modules:
                continue
            if tap.given:
                hook = modules[tap.module].register_forward_hook(partial(self._gives, tap))
            else:
                hook = modules[tap.module].register_forward_pre_hook(partial(self._takes, tap), with_kwargs=True)
            self._hooks.append(hook)
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        """End."""
        super().__exit__(*exception)
        while self._hooks:
            self._hooks.pop().remove()

    # In an exported graph most modules do not run: their functions do.

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function."""
        owner = self._norm(called(func), args, kwargs or {})
        if owner:
            self._tap(Tap(owner, given=False), args[0])
        result = super().__torch_function__(func, types, args, kwargs)
        if owner:
            self._tap(Tap(owner, given=True), result)
        return result

    def _norm(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        if name not in NORMS:
            return ""
        return next((self._owners[id(each)] for each in (*args, *kwargs.values()) if id(each) in self._owners), "")

    def before(self, call: Call) -> None:
        """A product is about to be computed."""
        self._tap(Tap(call.layer, given=False), call.inputs)

    def gave(self, call: Call, result: Tensor, turn: tuple[int, ...] | None) -> None:  # noqa: ARG002
        """The network goes on with a product's outputs."""
        self._tap(Tap(call.layer, given=True), result)

    def _gives(self, tap: Tap, _: nn.Module, __: Any, output: Any) -> None:
        self._tap(tap, output)

    def _takes(self, tap: Tap, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._tap(tap, next(iter((*args, *kwargs.values()))))

    def _tap(self, tap: Tap, value: Tensor) -> None:
        for layer in self._layers.get(tap, ()):
            self.shortcut(layer, value)


def shortcut_rows(layer: Layer, value: Tensor) -> Tensor | None:
    """What is added to a layer's outputs at its positions, (R, outputs); None if it is not laid out like them."""
    turn = layer.way.turn
    if turn is not None:
        value = value.permute(sorted(range(len(turn)), key=turn.__getitem__))
    if not layer.features_last:
        value = value.movedim(1, -1)
    flat = value.reshape(-1, value.shape[-1])
    return flat[layer.index] if len(flat) == layer.count else None


class _Record(Following):
    """Keeps a network's outputs at random positions."""

    def __init__(self, network: nn.Module, found: Mapping[str, Found], times: float, rows: int) -> None:
        """Of a network.

        Args:
            network: Which.
            found: What is known of its layers from a run.
            times: As many samples as there will be now.
            rows: How many of a layer, at most.
        """
        import torch

        super().__init__(network, {name: each.way for name, each in found.items()})
        generator = torch.Generator().manual_seed(_SEED)
        device = next(iter(network.parameters())).device
        count = {name: round(each.positions * times) for name, each in found.items()}
        most = {n: min(rows, count[n], max(_FEW, _NUMBERS // each.features)) for n, each in found.items()}
        held = sum(4 * most[n] * each.outputs * (2 if each.way.shortcut else 1) for n, each in found.items())
        share = min(1.0, _TARGETS / max(held, 1))

        def drawn(positions: int, some: int) -> Tensor:
            return torch.randperm(positions, generator=generator)[:some].sort().values.to(device)

        self.layers: dict[str, Layer] = {}
        self._planned = {
            name: Layer(
                way=each.way,
                index=drawn(count[name], max(_FEW, int(share * most[name]))),
                count=count[name],
                outputs=torch.empty(0),
                shortcut=None,
                features_last=each.features_last,
                few=count[name] < _PLENTY * each.features,
                shared=each.uses > 1,
            )
            for name, each in found.items()
        }
        self._shortcuts: dict[str, Tensor | None] = {}
        self.recurrent: dict[str, list[Known] | None] = {}
        self._rows = rows

    def shortcut(self, layer: str, value: Tensor) -> None:
        """Keep its rows."""
        if layer in self._planned:
            self._shortcuts[layer] = shortcut_rows(self._planned[layer], value)

    def rolls(self, roll: Roll) -> None:
        """Keep what is known of a recurrent layer, if it runs once."""
        again = roll.layer in self.recurrent
        self.recurrent[roll.layer] = None if again else known(roll, self._rows)

    def after(self, call: Call, outputs: Callable[[], Tensor]) -> None:
        """Keep the rows of a layer."""
        planned = None if call.first else self._planned.pop(call.layer, None)
        if planned is None:
            return
        made = outputs()
        if positions(call.product, made) == planned.count:
            self.layers[call.layer] = replace(
                planned,
                outputs=rows_of(call.product, made, planned.index),
                shortcut=self._shortcuts.pop(call.layer, None),
            )
