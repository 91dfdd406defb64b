"""Two thin linear layers in place of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from pydantic import Field

from autoprune.errors import TrialError
from autoprune.plugin import Choices, Costs, LayerCosts, Range, Transform

if TYPE_CHECKING:
    from torch import nn

    from autoprune.plugin import Knob, TransformContext


class LowRank(Transform):
    """Replaces linear layers by their best approximations of a lower rank, found by the singular value decomposition.

    Eckart & Young, "The approximation of one matrix by another of lower rank", Psychometrika 1936; of networks Denton
    et al., "Exploiting Linear Structure Within Convolutional Networks for Efficient Evaluation", arXiv:1404.0736. The
    search chooses the share of each layer's weights that is left; 1 leaves the layer as it is.
    """

    name = "low-rank"

    layers: tuple[str, ...] = Field(default=("*",), description="Patterns of the names of linear layers to replace.")
    keep: tuple[str, ...] = Field(default=(), description="Patterns of those that stay as they are all the same.")
    low: float = Field(default=0.1, gt=0, lt=1, description="Lowest share of a layer's weights that may be chosen.")

    @property
    def runs_named_code(self) -> bool:
        """Not it: it has no such option."""
        return False

    def knobs(self, network: nn.Module) -> Sequence[Knob]:
        """The share of the weights that is left of each linear layer that a rank of 1 would make smaller.

        Raises:
            TrialError: A pattern matches no linear layer.
        """
        linear = _linear(network)
        for pattern in (*self.layers, *self.keep):
            if pattern != "*" and not any(fnmatchcase(name, pattern) for name in linear):
                raise TrialError(f"no linear layer is called {pattern!r}; there are {', '.join(linear) or 'none'}")
        names = (name for name, layer in linear.items() if _rank(layer.weight.shape, 0.0) is not None)
        return [Range(name, self.low, 1.0, usual=1.0) for name in names if self._named(name)]

    def apply(self, network: nn.Module, choice: Choices, ctx: TransformContext) -> nn.Module:  # noqa: ARG002  no data
        """Each chosen layer by its truncated decomposition; singular values go to either side by their roots."""
        import torch

        for name, (first, second, layer) in _replaced(network, choice).items():
            with torch.no_grad():
                left, values, right = torch.linalg.svd(layer.weight.double(), full_matrices=False)
                rank, roots = len(first.weight), values.sqrt()
                first.weight.copy_(roots[:rank, None] * right[:rank])
                second.weight.copy_(left[:, :rank] * roots[:rank])
                if layer.bias is not None:
                    second.bias.copy_(layer.bias)
            _put(network, name, first, second)
        return network

    def rebuild(self, network: nn.Module, choice: Choices) -> nn.Module:
        """The same layers replaced, with any weights."""
        for name, (first, second, _) in _replaced(network, choice).items():
            _put(network, name, first, second)
        return network

    def costs(self, layers: Mapping[str, LayerCosts], choice: Choices) -> Mapping[str, LayerCosts]:
        """Of the layers that are replaced, as long as a layer is called as often as before."""
        return {
            name: _thinner(layers[name], rank)
            for name, share in choice.items()
            if name in layers
            and layers[name].kind == "Linear"
            and (rank := _rank(layers[name].shapes["weight"], float(share))) is not None
        }

    def _named(self, name: str) -> bool:
        return any(fnmatchcase(name, p) for p in self.layers) and not any(fnmatchcase(name, p) for p in self.keep)


def _rank(shape: Sequence[int], share: float) -> int | None:
    """Rank at which a layer of that shape, (O, I), has that share of its weights; None where it stays as it is."""
    outputs, inputs = shape
    rank = max(1, int(share * outputs * inputs / (outputs + inputs)))
    return rank if share < 1 and rank * (outputs + inputs) < outputs * inputs else None


def _linear(network: nn.Module) -> dict[str, nn.Linear]:
    """Linear layers by name, less those that share a parameter or stand in several places."""
    from torch import nn

    uses = Counter(id(parameter) for _, parameter in network.named_parameters(remove_duplicate=False))
    # Not classes derived from it: whoever made one may look into it, as nn.MultiheadAttention does.
    return {
        name: module
        for name, module in network.named_modules()
        if type(module) is nn.Linear and all(uses[id(parameter)] == 1 for parameter in module.parameters())
    }


def _replaced(network: nn.Module, choice: Choices) -> dict[str, tuple[nn.Linear, nn.Linear, nn.Linear]]:
    """Per layer to replace the two thin ones, with any weights, and itself; a layer may be gone with its block."""
    from torch import nn

    found = {}
    for name, layer in _linear(network).items():
        weight = layer.weight
        rank = _rank(weight.shape, float(choice.get(name, 1.0)))
        if rank is not None:
            pair = [
                nn.Linear(layer.in_features, rank, bias=False, device="meta", dtype=weight.dtype),
                nn.Linear(rank, layer.out_features, layer.bias is not None, device="meta", dtype=weight.dtype),
            ]
            first, second = (p.to_empty(device=weight.device).requires_grad_(weight.requires_grad) for p in pair)
            found[name] = first, second, layer
    return found


def _put(network: nn.Module, name: str, first: nn.Linear, second: nn.Linear) -> None:
    from torch import nn

    above, _, last = name.rpartition(".")
    parent = network.get_submodule(above)
    setattr(parent, last, nn.Sequential(first, second).train(parent.training))
    if isinstance(parent, nn.TransformerEncoderLayer):
        parent.activation_relu_or_gelu = 0  # keeps it off its fused path, which looks for the one weight


def _thinner(layer: LayerCosts, rank: int) -> LayerCosts:
    outputs, inputs = layer.shapes["weight"]
    before, after = outputs * inputs, rank * (outputs + inputs)
    params = layer.costs.params - before + after
    bias = {"1.bias": layer.shapes["bias"]} if "bias" in layer.shapes else {}
    shapes = {"0.weight": (rank, inputs), "1.weight": (outputs, rank), **bias}
    costs = Costs(
        params=params,
        macs=layer.costs.macs // before * after,
        bytes=layer.costs.bytes // layer.costs.params * params,
        nonzero=params,
    )
    return replace(layer, kind="Sequential", shapes=shapes, costs=costs)
