"""Win back what a cut cost by least squares: every layer to the dense network's outputs, without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pydantic import Field

from autoprune import TrialError
from autoprune.plugin import Recovery
from autoprune_recoveries._layers import design, positions, put, repairable, rows_of, support_matrix, weight_matrix
from autoprune_recoveries._ridge import Moments, ridge

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from autoprune.plugin import Data, Inputs, PruneContext, Pruned
    from autoprune_recoveries._dataflow import Tap, Way

_SEED = 0
_HELD_OUT = 5
"""One row in so many decides whether a fit is kept."""
_FAITHFUL = 1e-9
"""Squared error, relative to the outputs' variance, of a layer that no cut has reached."""
_BYTES = 2**29
"""What all samples' activations at a time may take, roughly: with large images fewer samples are used."""
_LIVE = 4
"""Activations as large as the largest that live at a time."""
_FLAT = 1e-3
"""Gain of a norm's channel, relative to the largest, below which nothing can be mended behind it."""


class Repair(Recovery):
    """Fits each layer of the pruned network to the dense network's outputs, in closed form.

    In the order of execution every convolution and linear layer gets the ridge solution that maps its own inputs, those
    of the pruned and already repaired network, to what the dense layer put out for the same samples. What a residual
    stream has lost so far is taken into the target, so that block output plus shortcut equals the dense one's. A
    constant goes into the layer's bias or the batch norm behind it. No labels, no gradients, one forward pass of each
    network; the dense one's once per study. A fit that is worse on held-out rows than the cut weights is not taken.
    Recurrent layers, attention that computes with its weights by itself (``nn.MultiheadAttention``) and layers that run
    several times stay as they were cut.
    """

    name = "repair"

    samples: int = Field(default=256, ge=8, description="Train samples whose activations are fitted; no labels.")
    rows: int = Field(default=8000, ge=64, description="Positions of a layer's outputs that its fit uses, at most.")
    damping: float = Field(
        default=1e-3, gt=0, description="Pull towards the cut weights, relative to the inputs' mean variance."
    )

    def recover(self, pruned: Pruned, ctx: PruneContext) -> None:
        """Change weights, biases and norms in place.

        Raises:
            TrialError: The pruned network has no layer that can be fitted, as an exported graph has none.
        """
        import torch

        reference = ctx.memo((self.name, self.samples, self.rows), lambda: _Reference.of(ctx, self.samples, self.rows))
        network = pruned.network
        if not reference.layers.keys() & {name for name, _ in network.named_modules()}:
            raise TrialError("the pruned network has no convolution or linear layer to fit; take another recovery")
        kept = {name: ctx.rows(pruned, name).to(ctx.device) for name in reference.layers}
        masked = {group.masked for group in ctx.groups if group.masked and group.name in pruned.kept}
        fit = _Fit(network, reference, kept, masked, self.damping)
        with torch.no_grad(), fit.hooked():
            reference.inputs.feed(ctx.predictor(network))

    def refuses(self, data: Data) -> str | None:
        """Why nothing can be fitted on that data; None when it can."""
        if len(data.train) < 8:
            return f"a fit takes 8 train samples or more; there are {len(data.train)}"
        return None


@dataclass(frozen=True)
class _Layer:
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
class _Reference:
    """The dense network's outputs at fixed positions, of fixed samples."""

    inputs: Inputs
    layers: Mapping[str, _Layer]
    """In the order of execution."""

    @classmethod
    def of(cls, ctx: PruneContext, samples: int, rows: int) -> _Reference:
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
def _hooked(
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


class _Record:
    """Keeps a network's outputs at random positions."""

    def __init__(self, network: nn.Module, found: Mapping[str, Way], rows: int) -> None:
        self._network = network
        self._found = found
        self._rows = rows
        self._generator: Any = None
        self._shortcuts: dict[str, Tensor] = {}
        self.layers: dict[str, _Layer] = {}

    def hooked(self) -> AbstractContextManager[None]:
        import torch

        self._generator = torch.Generator().manual_seed(_SEED)
        modules = dict(self._network.named_modules())
        return _hooked(modules, self._found, layer=self._hang, shortcut=self._keep)

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
            self.layers[name] = _Layer(
                way=self._found[name],
                index=index,
                count=count,
                outputs=rows_of(layer, output, index),
                shortcut=None if shortcut is None else rows_of(layer, shortcut, index),
            )

        return hook


class _Fit:
    """Repairs layers as they are about to run."""

    def __init__(
        self,
        network: nn.Module,
        reference: _Reference,
        kept: Mapping[str, Tensor],
        masked: set[str],
        damping: float,
    ) -> None:
        self._modules = dict(network.named_modules())
        self._reference = reference
        self._kept = kept
        self._masked = masked
        self._damping = damping
        self._shortcuts: dict[str, Tensor] = {}

    def hooked(self) -> AbstractContextManager[None]:
        found = {name: layer.way for name, layer in self._reference.layers.items() if name in self._modules}
        return _hooked(self._modules, found, layer=self._hang, shortcut=self._keep)

    def _keep(self, name: str, value: Tensor) -> None:
        layer, module = self._reference.layers[name], self._modules[name]
        if positions(module, value) == layer.count:
            self._shortcuts[name] = rows_of(module, value, layer.index)

    def _hang(self, name: str, layer: nn.Module) -> RemovableHandle:
        return layer.register_forward_pre_hook(self._layer(name))

    def _layer(self, name: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and len(self._kept[name]):
                self._mend(name, module, args[0])

        return hook

    def _mend(self, name: str, module: Any, inputs: Tensor) -> None:
        layer, kept = self._reference.layers[name], self._kept[name]
        x = design(module, inputs, layer.index).float()
        targets = layer.outputs[:, kept].float()
        norm = self._norm(layer.way)
        targets = self._with_shortcut(name, layer, kept, targets, norm)
        near = weight_matrix(module)
        if x.shape[2] != near.shape[2] or targets.shape[1] != near.shape[0] * near.shape[1]:
            return  # the layer is not what it was in the dense network
        groups = near.shape[0]
        t = targets.reshape(len(targets), groups, -1).transpose(0, 1)
        centre = module.bias is not None or norm is not None
        bias = t.new_zeros(near.shape[:2]).double() if module.bias is None else module.bias.double().reshape(groups, -1)
        held = len(targets) // _HELD_OUT
        fitting, testing = Moments.of(x[:, held:], t[:, held:]), Moments.of(x[:, :held], t[:, :held])
        spread = (testing.squares - testing.targets.square() / testing.count).sum() / testing.count
        before = testing.error(near, bias)
        if before <= _FAITHFUL * spread:
            return
        mask = None
        if f"{name}.weight" in self._masked:
            mask = support_matrix(module, module.weight != 0)

        def fitted(moments: Moments) -> tuple[Tensor, Tensor]:
            weight = ridge(moments, near, damping=self._damping, centre=centre, support=mask)
            return weight, moments.bias(weight) if centre else bias

        ways_out = {"fit": testing.error(*fitted(fitting)), "cut": before}
        if centre:
            ways_out["shift"] = testing.error(near, fitting.bias(near))
        best = min(ways_out, key=lambda way: float(ways_out[way]))
        if best == "cut":
            return
        whole = fitting + testing
        weight, constant = fitted(whole) if best == "fit" else (near, whole.bias(near))
        if not bool(weight.isfinite().all()):
            return
        put(module, weight)
        if module.bias is not None:
            module.bias.copy_(constant.reshape(module.bias.shape))
        elif norm is not None:
            norm.running_mean.sub_(constant.flatten().to(norm.running_mean.dtype))

    def _norm(self, way: Way) -> Any:
        norm = self._modules.get(way.norm or "\0")
        return norm if getattr(norm, "running_mean", None) is not None else None

    def _with_shortcut(self, name: str, layer: _Layer, kept: Tensor, targets: Tensor, norm: Any) -> Tensor:
        """The targets and what the shortcut has lost, in units of the layer's output."""
        now = self._shortcuts.pop(name, None)
        if now is None or layer.shortcut is None or now.shape != targets.shape:
            return targets
        lost = layer.shortcut[:, kept].float() - now.float()
        if norm is None:
            return targets if layer.way.norm else targets + lost
        gain = (norm.running_var + norm.eps).rsqrt()
        gain = gain if norm.weight is None else gain * norm.weight
        flat = gain.abs() < _FLAT * gain.abs().max()
        more: Tensor = (lost / gain.masked_fill(flat, 1)).masked_fill(flat, 0)
        return targets + more


def _watch(module: nn.Module, tap: Tap, keep: Any) -> Any:
    if tap.given:
        return module.register_forward_hook(lambda _, __, output: keep(output))
    return module.register_forward_pre_hook(
        lambda _, args, kwargs: keep(next(iter((*args, *kwargs.values())))), with_kwargs=True
    )
