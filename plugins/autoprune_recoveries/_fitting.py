"""Fits the layers of a pruned network, one after the other, as they are about to run."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from autoprune.toolkit.layers import design, positions, put, rows_of, support_matrix, weight_matrix
from autoprune.toolkit.least_squares import Moments, ridge
from autoprune_recoveries._reference import hooked

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.utils.hooks import RemovableHandle

    from autoprune_recoveries._dataflow import Way
    from autoprune_recoveries._reference import Layer, Reference

_HELD_OUT = 5
"""One row in so many decides whether a fit is kept."""
_FAITHFUL = 1e-9
"""Squared error, relative to the outputs' variance, of a layer that no cut has reached."""
_FLAT = 1e-3
"""Gain of a norm's channel, relative to the largest, below which nothing can be mended behind it."""


class Fit:
    """Repairs layers as they are about to run."""

    def __init__(
        self,
        network: nn.Module,
        reference: Reference,
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
        return hooked(self._modules, found, layer=self._hang, shortcut=self._keep)

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

    def _with_shortcut(self, name: str, layer: Layer, kept: Tensor, targets: Tensor, norm: Any) -> Tensor:
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
