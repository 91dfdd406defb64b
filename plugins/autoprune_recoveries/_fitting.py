"""Fits the layers of a pruned network, one after the other, as they are about to run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from autoprune.toolkit.layers import design, places, put, support_matrix, weight_matrix
from autoprune.toolkit.least_squares import Fitting, Rectified, Rows
from autoprune_recoveries._products import Call, parameter_of
from autoprune_recoveries._recurrent import Roll, mend
from autoprune_recoveries._reference import Following, shortcut_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

    from autoprune_recoveries._dataflow import Way
    from autoprune_recoveries._reference import Layer, Reference

HELD_OUT = 20
"""One row in so many, those of the first samples, decides whether a fit is kept."""
_FAITHFUL = 1e-9
"""Squared error, relative to the outputs' variance, of a layer that no cut has reached; in float32."""
_FLAT = 1e-3
"""Gain of a norm's channel, relative to the largest, below which nothing can be mended behind it."""


class Fit(Following):
    """Repairs layers as they are about to run."""

    def __init__(
        self,
        network: nn.Module,
        reference: Reference,
        kept: Mapping[str, Tensor],
        masked: set[str],
        damping: float,
    ) -> None:
        """Of a network.

        Args:
            network: The pruned one.
            reference: What the dense one gave.
            kept: Layer to its dense outputs that stayed.
            masked: Names of the parameters whose zeros stay.
            damping: Pull towards the cut weights.
        """
        super().__init__(network, {name: layer.way for name, layer in reference.layers.items()})
        self._modules = dict(network.named_modules())
        self._parameters = dict(network.named_parameters())
        self._reference = reference
        self._kept = kept
        self._masked = masked
        self._damping = damping
        self._shortcuts: dict[str, Tensor | None] = {}
        self._met: set[tuple[str, int]] = set()

    def shortcut(self, layer: str, value: Tensor) -> None:
        """Keep its rows."""
        self._shortcuts[layer] = shortcut_rows(self._reference.layers[layer], value)

    def before(self, call: Call) -> None:
        """Fit a layer when it runs for the first time."""
        import torch

        super().before(call)
        if (call.layer, call.first) in self._met:
            return
        self._met.add((call.layer, call.first))
        layer, kept = self._reference.layers.get(call.layer), self._kept.get(call.layer)
        if layer is not None and kept is not None and len(kept):
            kept = kept[call.first : call.first + call.product.outputs]
            with torch.autocast(call.inputs.device.type, enabled=False):
                self._mend(call, layer, kept)

    def rolls(self, roll: Roll) -> None:
        """Fit a recurrent layer."""
        import torch

        dense, kept = self._reference.recurrent.get(roll.layer), self._kept.get(roll.layer)
        if dense is None or kept is None or not len(kept):
            return
        cell = roll.cells[0]
        rounding = _rounding(roll.inputs)
        better = partial(self._better, centre=len(cell.params) > 2, mask=None, rounding=rounding)
        masked = any(name.startswith(f"{roll.layer}.") for name in self._masked)
        if not masked and len(kept) == roll.directions * cell.params[1].shape[1]:
            with torch.autocast(roll.inputs.device.type, enabled=False):
                mend(roll, dense, kept, better)

    def _mend(self, call: Call, layer: Layer, kept: Tensor) -> None:
        product, near = call.product, weight_matrix(call.product)
        norm, own = self._norm_behind(layer.way), self._own_bias(call)
        now = self._shortcuts.pop(call.layer, None)
        if not _as_it_was(call, layer, kept):
            return
        gain, groups = self._gain(layer.way, norm, len(kept)), len(near)
        outputs = layer.outputs[:, kept].float()
        targets = _apart(outputs + _lost(layer, kept, now, gain), groups)
        rectified = None
        if layer.way.rectified and gain is not None and (layer.way.shortcut is None) == (layer.shortcut is None):
            taken = _taken(layer, kept, norm, gain, outputs)
            rectified = Rectified(_apart(taken, groups), _apart(gain.unsqueeze(0), groups))
        bias = near.new_zeros(near.shape[:2])
        if product.bias is not None:
            bias = product.bias.double().reshape(bias.shape)
        mask = support_matrix(product, product.weight != 0) if call.parameter in self._masked else None
        rows = Rows(design(product, call.inputs, layer.index).float(), targets, rectified)
        rounding = _rounding(layer.outputs)
        better = self._better(rows, near, bias, centre=own or norm is not None, mask=mask, rounding=rounding)
        if better is None:
            return
        put(product, better[0])
        if own:
            assert product.bias is not None  # noqa: S101  it is the layer's own
            product.bias.copy_(better[1].reshape(product.bias.shape))
        elif norm is not None:
            norm.running_mean.sub_((better[1] - bias).flatten().to(norm.running_mean.dtype))

    def _better(
        self, rows: Rows, near: Tensor, bias: Tensor, *, centre: bool, mask: Tensor | None, rounding: float
    ) -> tuple[Tensor, Tensor] | None:
        """Weights and constants that are better on held-out rows than the given ones; None if there are none."""
        held = max(1, rows.x.shape[1] // HELD_OUT)
        some, testing = rows[held:], rows[:held]
        least = float(testing.error(near, bias))
        enough = _FAITHFUL * float(testing.spread) + rounding**2 * float(testing.square)
        if not enough < least < math.inf:
            return None
        best: tuple[Tensor, Tensor] | None = None

        def consider(weight: Tensor, constant: Tensor) -> bool:
            nonlocal best, least
            error = float(testing.error(weight, constant))
            if error < least:  # which NaN is not
                best, least = (weight, constant), error
                return True
            return False

        if centre:
            consider(near, some.bias(near))
        fitting = Fitting(some.x, near, bias, damping=self._damping, centre=centre, support=mask)
        fit = fitting.towards(some.t)
        if consider(*fit) and rows.rectified is not None:
            consider(*fitting.towards(some.targets(some.told(*fit))))
        return best

    def _norm_behind(self, way: Way) -> Any:
        norm = self._modules.get(way.norm or "\0")
        return norm if getattr(norm, "running_mean", None) is not None else None

    def _own_bias(self, call: Call) -> bool:
        """Whether a product's constant is a parameter of the layer, and not computed or another's."""
        if call.product.bias is None:
            return False
        bias = parameter_of(call.product.bias)
        owner = self._modules.get(call.layer) or self._modules[call.parameter.rpartition(".")[0]]
        return any(bias is each for each in owner._parameters.values())

    def _gain(self, way: Way, norm: Any, outputs: int) -> Tensor | None:
        """What an output is multiplied with before something is added, (O,); None where that cannot be told."""
        import torch

        if way.norm and (norm is None or len(norm.running_var) != outputs):
            return None
        gain = torch.ones(outputs, device=next(iter(self._parameters.values())).device)
        if norm is not None:
            gain = gain * (norm.running_var + norm.eps).rsqrt()
            gain = gain if norm.weight is None else gain * norm.weight
        if way.scale is not None:
            scale = self._parameters[way.scale].flatten().to(gain.dtype)
            if len(scale) not in (1, outputs):
                return None
            gain = gain * scale
        return gain.masked_fill(gain.abs() <= _FLAT * gain.abs().max(), 0)


def _lost(layer: Layer, kept: Tensor, now: Tensor | None, gain: Tensor | None) -> Tensor | float:
    """What the shortcut has lost, in units of the layer's outputs; 0 where that cannot be told."""
    if now is None or layer.shortcut is None or gain is None or now.shape[1] != len(kept):
        return 0.0
    flat = gain == 0
    return ((layer.shortcut[:, kept].float() - now.float()) / gain.masked_fill(flat, 1)).masked_fill(flat, 0)


def _taken(layer: Layer, kept: Tensor, norm: Any, gain: Tensor, outputs: Tensor) -> Tensor:
    """What the dense network's ReLU takes, (R, O)."""
    taken = outputs * gain
    if norm is not None:
        taken = taken - norm.running_mean * gain
        taken = taken if norm.bias is None else taken + norm.bias
    return taken if layer.shortcut is None else taken + layer.shortcut[:, kept].float()


def _apart(values: Tensor, groups: int) -> Tensor:
    """(R, g·O) to (g, R, O)."""
    return values.reshape(len(values), groups, -1).transpose(0, 1)


def _rounding(outputs: Tensor) -> float:
    """Relative error of a layer's outputs; GPUs multiply float32 in TF32, unless that is forbidden."""
    import torch

    short = outputs.is_cuda and outputs.dtype == torch.float32 and torch.backends.cudnn.allow_tf32
    return 2.0**-10 if short else float(torch.finfo(outputs.dtype).eps)


def _as_it_was(call: Call, layer: Layer, kept: Tensor) -> bool:
    """Whether a layer is the dense one less some inputs and outputs: at the same positions, too."""
    outputs, count = call.product.outputs, places(call.product, call.inputs)
    return len(kept) == outputs and int(kept.max()) < layer.outputs.shape[1] and count == layer.count
