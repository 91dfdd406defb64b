"""Low rank: the best approximation, and costs that are those of the network."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from autoprune.errors import TrialError
from autoprune.plugin import Costs, LayerCosts, Range
from autoprune_transforms.low_rank import LowRank

CTX: Any = None
"""It looks at no data."""


class Twice(nn.Module):
    """Calls one layer for each of 5 tokens, another twice, and ties a third to an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 12)
        self.token = nn.Linear(12, 16)
        self.again = nn.Linear(16, 16, bias=False)
        self.narrow = nn.Linear(16, 12)
        self.tied = nn.Linear(12, 20, bias=False)
        self.tied.weight = self.embedding.weight
        self.one = nn.Linear(20, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.again(self.again(self.token(self.embedding(tokens)).relu()).relu())
        return self.one(self.tied(self.narrow(x))).flatten(1)


@pytest.fixture
def net() -> Twice:
    torch.manual_seed(0)
    return Twice().eval()


@pytest.fixture
def tokens() -> Tensor:
    return torch.arange(10).view(2, 5)


def macs(network: nn.Module, *inputs: Tensor) -> int:
    """Of one sample."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(*inputs)
    return counter.get_total_flops() // 2 // len(inputs[0])


def size(network: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())


def layer_costs(network: nn.Module, *inputs: Tensor) -> dict[str, LayerCosts]:
    """What the host says of linear layers, counted here from their calls."""
    calls: dict[str, int] = {}
    layers = {name: module for name, module in network.named_modules() if isinstance(module, nn.Linear)}

    def count(name: str) -> Any:
        def hook(module: nn.Linear, args: tuple[Tensor], output: Tensor) -> None:
            calls[name] = calls.get(name, 0) + output.numel() // module.out_features // len(inputs[0])

        return hook

    handles = [module.register_forward_hook(count(name)) for name, module in layers.items()]
    network(*inputs)
    for handle in handles:
        handle.remove()
    costs = {}
    for name, module in layers.items():
        params = sum(parameter.numel() for parameter in module.parameters())
        shapes = {local: tuple(parameter.shape) for local, parameter in module.named_parameters()}
        each = Costs(params, calls[name] * module.weight.numel(), size(module), params)
        costs[name] = LayerCosts("Linear", shapes, each)
    return costs


def test_knobs_are_the_layers_that_can_get_smaller(net: Twice) -> None:
    knobs = {knob.name: knob for knob in LowRank(low=0.2).knobs(net)}
    assert knobs.keys() == {"token", "again", "narrow"}
    assert knobs["token"] == Range("token", 0.2, 1.0, usual=1.0)
    assert {knob.name for knob in LowRank(layers=("t*", "narrow"), keep=("*n",)).knobs(net)} == {"narrow"}
    assert not LowRank(keep=("*",)).knobs(net)
    for options in ({"layers": ("t*", "tokens")}, {"keep": ("tokens",)}):
        with pytest.raises(TrialError, match=r"no linear layer is called 'tokens'; there are .*token"):
            LowRank(**options).knobs(net)


def test_a_layer_that_another_transform_replaced_is_passed_over(net: Twice) -> None:
    network = copy.deepcopy(net)
    network.token = nn.Sequential(network.token)
    layers = {"token": LayerCosts("Sequential", {}, Costs(1, 1, 1, 1))}
    assert not LowRank().costs(layers, {"token": 0.2})
    assert isinstance(LowRank().rebuild(network, {"token": 0.2}).token[0], nn.Linear)


def test_a_layer_is_replaced_by_its_best_approximation(net: Twice) -> None:
    """No other matrix of that rank is nearer: the error is that of the singular values left out."""
    dense = copy.deepcopy(net)
    LowRank().apply(net, {"token": 0.88, "again": 1.0}, CTX)  # 6 * (12 + 16) of 192 weights
    first, second = net.token
    assert first.weight.shape == (6, 12)
    assert first.bias is None
    product = second.weight @ first.weight
    left, values, right = torch.linalg.svd(dense.token.weight)
    assert torch.allclose(product, left[:, :6] * values[:6] @ right[:6], atol=1e-5)
    assert torch.allclose((product - dense.token.weight).norm(), values[6:].norm(), rtol=1e-4)
    assert torch.equal(second.bias, dense.token.bias)
    assert type(net.again) is nn.Linear, "1 leaves it as it is"
    assert type(net.narrow) is nn.Linear, "it was not chosen"


def test_a_layer_of_that_rank_predicts_the_same(net: Twice, tokens: Tensor) -> None:
    with torch.no_grad():
        net.again.weight.copy_(torch.randn(16, 3) @ torch.randn(3, 16))
        before = net(tokens)
        LowRank().apply(net, {"again": 3 * 32 / 256}, CTX)
        assert type(net.again) is nn.Sequential
        assert torch.allclose(net(tokens), before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("share", [0.01, 0.2, 0.4, 0.49, 0.5, 0.51, 0.8, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_costs_are_those_of_the_network(share: float, dtype: torch.dtype, net: Twice, tokens: Tensor) -> None:
    net.to(dtype)
    choice = dict.fromkeys(("token", "again", "narrow"), share)
    layers = layer_costs(net, tokens)
    before = macs(net, tokens), size(net), sum(p.numel() for p in net.parameters())
    changed = LowRank().costs(layers, choice)
    network = LowRank().apply(net, choice, CTX)
    told = {key: sum(getattr(c.costs, key) - getattr(layers[n].costs, key) for n, c in changed.items()) for key in KEYS}
    assert before[0] + told["macs"] == macs(network, tokens)
    assert before[1] + told["bytes"] == size(network)
    assert before[2] + told["params"] == sum(p.numel() for p in network.parameters())
    assert told["nonzero"] == told["params"]
    assert all(told[key] <= 0 for key in KEYS), "a replaced layer is never larger"
    for name, layer in changed.items():
        module = network.get_submodule(name)
        assert layer.shapes == {local: tuple(p.shape) for local, p in module.named_parameters()}
        assert layer.kind == type(module).__name__
    assert (share < 1) == ("again" in changed)
    assert all(c.costs.params <= max(share * layers[n].costs.params + 16, 48) for n, c in changed.items())


KEYS = ("params", "macs", "bytes", "nonzero")


def test_masked_weights_are_counted_as_they_are_replaced(net: Twice, tokens: Tensor) -> None:
    """Two thin layers have no zeros; a layer that stays keeps its own."""
    layers: Mapping[str, LayerCosts] = layer_costs(net, tokens)
    half = {n: LayerCosts(c.kind, c.shapes, Costs(**{**vars(c.costs), "nonzero": 7})) for n, c in layers.items()}
    changed = LowRank().costs(half, {"token": 0.25, "again": 1.0})
    assert changed.keys() == {"token"}
    assert changed["token"].costs.nonzero == changed["token"].costs.params == 1 * (12 + 16) + 16


def test_it_is_rebuilt_with_any_weights(net: Twice, tokens: Tensor) -> None:
    choice = {"token": 0.3, "again": 0.1, "narrow": 1.0}
    made = LowRank().apply(copy.deepcopy(net), choice, CTX)
    again = LowRank().rebuild(copy.deepcopy(net), choice)
    again.load_state_dict(made.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(tokens), made(tokens))
    assert not any(module.training for module in made.modules())


def test_a_layer_that_went_with_its_block_is_passed_over(net: Twice, tokens: Tensor) -> None:
    layers = layer_costs(net, tokens)
    del layers["again"]
    net.again = nn.Identity()
    assert not LowRank().costs(layers, {"again": 0.1})
    assert type(LowRank().apply(net, {"again": 0.1}, CTX).again) is nn.Identity


@pytest.mark.parametrize("where", ["apply", "rebuild"])
def test_transformer_layers_predict_with_replaced_layers(where: str) -> None:
    """Their fused path reads weights that are no longer there."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    net = nn.TransformerEncoder(layer, 2).eval()
    names = [knob.name for knob in LowRank().knobs(net)]
    assert names == ["layers.0.linear1", "layers.0.linear2", "layers.1.linear1", "layers.1.linear2"]
    x, choice = torch.randn(3, 5, 16), dict.fromkeys(names, 0.6)
    changed = LowRank().apply(copy.deepcopy(net), choice, CTX)
    if where == "rebuild":
        weights = changed.state_dict()
        changed = LowRank().rebuild(net, choice)
        changed.load_state_dict(weights)
    with torch.no_grad():
        outputs = changed.eval()(x)
    with torch.enable_grad():
        expected = changed(x)
    assert torch.allclose(outputs, expected, atol=1e-5)
    assert type(changed.layers[0].linear1) is nn.Sequential


def test_frozen_layers_stay_frozen(net: Twice) -> None:
    net.token.requires_grad_(False)
    LowRank().apply(net, {"token": 0.2, "again": 0.2}, CTX)
    assert not any(parameter.requires_grad for parameter in net.token.parameters())
    assert all(parameter.requires_grad for parameter in net.again.parameters())


@pytest.mark.slow
def test_components_import_no_torch() -> None:
    code = "import sys; import autoprune_transforms as t; t.autoprune_components(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
