"""Batch norms folded into the layers before them: what is folded, and that it predicts the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from autoprune.structure import discover

from .nets import CASES, discovered, example, perturb

NOTHING = {"dense", "group-norms", "convnext", "transposed-groups"}
"""Nets on images without a batch norm that alone reads a layer."""
IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def norms(network: nn.Module) -> list[str]:
    return [name for name, m in network.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.tokens is None])
def test_a_folded_cut_predicts_the_same_and_has_the_same_gradients(name: str) -> None:
    net, structure = discovered(name)
    ranks = torch.Generator().manual_seed(2)
    scores = {g.name: torch.rand(g.units, generator=ranks) for g in structure.groups}
    kept = structure.select(scores, {g.name: g.units // 3 for g in structure.groups})
    cut = perturb(structure.cut(net, kept), seed=1)
    before = {name: tensor.clone() for name, tensor in cut.state_dict().items()}
    folded = structure.folded(cut)
    assert (folded is cut) == (name in NOTHING)
    inputs = tuple(tensor.requires_grad_() for tensor in example(CASES[name], samples=3, seed=5))
    made, expected = folded(*inputs), cut(*inputs)
    torch.testing.assert_close(made, expected, rtol=1e-4, atol=1e-5)
    gradients = [torch.autograd.grad(out.square().sum(), inputs) for out in (made, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    assert cut.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in cut.state_dict().items())


class Net(nn.Module):
    """One way to call a layer and a norm, and a head."""

    def __init__(self, layer: nn.Module, norm: nn.Module, call=None, channels: int = 8) -> None:
        super().__init__()
        self.layer, self.norm, self.head = layer, norm, nn.Linear(channels, 4)
        self.call = call or (lambda net, x: net.norm(net.layer(x)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.call(self, x).relu()
        return self.head(x.flatten(2).mean(2) if x.dim() > 2 else x)


def conv(**options) -> nn.Conv2d:
    return nn.Conv2d(3, 8, 3, **options)


FOLDED = {
    "conv": Net(conv(), nn.BatchNorm2d(8)),
    "no bias": Net(conv(bias=False), nn.BatchNorm2d(8, eps=0.1)),
    "reflected": Net(conv(padding=1, padding_mode="reflect"), nn.BatchNorm2d(8)),
    "not affine": Net(conv(), nn.BatchNorm2d(8, affine=False)),
    "averaging": Net(conv(), nn.BatchNorm2d(8, momentum=None)),
    "transposed": Net(nn.ConvTranspose2d(3, 8, 3, stride=2), nn.BatchNorm2d(8)),
    "in groups": Net(nn.Conv2d(3, 12, 3, groups=3), nn.BatchNorm2d(12), channels=12),
    "linear": Net(nn.Linear(192, 8), nn.BatchNorm1d(8), lambda net, x: net.norm(net.layer(x.flatten(1)))),
}
LEFT = {
    "transposed in groups": Net(nn.ConvTranspose2d(3, 12, 3, groups=3), nn.BatchNorm2d(12), channels=12),
    "no norm": Net(conv(), nn.Identity()),
    "its own statistics": Net(conv(), nn.BatchNorm2d(8, track_running_stats=False)),
    "group norm": Net(conv(), nn.GroupNorm(2, 8)),
    "read twice": Net(conv(), nn.BatchNorm2d(8), lambda net, x: (y := net.layer(x)) + net.norm(y)),
    "something between": Net(conv(), nn.BatchNorm2d(8), lambda net, x: net.norm(net.layer(x).relu())),
    "layer called twice": Net(
        nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), lambda net, x: net.norm(net.layer(net.layer(x))), channels=3
    ),
    "norm called twice": Net(
        nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), lambda net, x: net.norm(net.layer(net.norm(x))), channels=3
    ),
    "parametrized": Net(parametrizations.weight_norm(conv()), nn.BatchNorm2d(8)),
    "over steps": Net(nn.Linear(8, 24), nn.BatchNorm1d(24), lambda net, x: net.norm(net.layer(x.flatten(1, 2)))),
}
LEFT["over steps"].head = nn.Linear(24, 4)


def case(net: Net):
    net = copy.deepcopy(net).eval()
    if getattr(net.norm, "weight", None) is not None and getattr(net.norm, "running_mean", net) is not None:
        perturb(net)
    return net, discover(net, (IMAGES,), form="modules")


@pytest.mark.parametrize("name", FOLDED)
def test_a_norm_right_behind_a_layer_is_folded(name: str) -> None:
    net, structure = case(FOLDED[name])
    folded = structure.folded(net)
    assert norms(net)
    assert not norms(folded)
    torch.testing.assert_close(folded(IMAGES), net(IMAGES), rtol=1e-5, atol=1e-5)
    assert folded.head.weight is net.head.weight, "what is not folded is shared"


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_such_pair_is_left(name: str) -> None:
    net, structure = case(LEFT[name])
    folded = structure.folded(net)
    assert norms(folded) == norms(net)
    torch.testing.assert_close(folded(IMAGES), net(IMAGES))


def test_code_that_reads_a_norm_is_not_fooled() -> None:
    """It breaks, which is why a folded network is compared before it is used."""

    def functional_norm(net: Net, x: Tensor) -> Tensor:
        norm = net.norm
        return functional.batch_norm(net.layer(x), norm.running_mean, norm.running_var, norm.weight, norm.bias)

    net, structure = case(Net(conv(), nn.BatchNorm2d(8), functional_norm))
    with pytest.raises(AttributeError):
        structure.folded(net)(IMAGES)


@pytest.mark.parametrize("hooked", ["layer", "norm"])
def test_a_hook_keeps_its_layer(hooked: str) -> None:
    net, structure = case(FOLDED["conv"])
    seen: list[torch.Size] = []
    getattr(net, hooked).register_forward_hook(lambda module, args, out: seen.append(out.shape))
    folded = structure.folded(net)
    folded(IMAGES)
    assert seen == [(3, 8, 6, 6)]


def test_only_folded_weights_are_new_and_want_no_gradients() -> None:
    net, structure = discovered("residual")
    folded = structure.folded(net)
    own = {id(parameter) for parameter in net.parameters()}
    fresh = [name for name, parameter in folded.named_parameters() if id(parameter) not in own]
    assert fresh
    assert len(fresh) < len(list(folded.parameters()))
    assert not any(folded.get_parameter(name).requires_grad for name in fresh)


def test_a_block_that_is_left_out_is_no_layer() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.norm(self.conv(x)).relu()

    net = nn.Sequential(
        conv(), nn.BatchNorm2d(8), nn.ReLU(), Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    perturb(net)
    structure = discover(net, (IMAGES,), ["blocks"])
    (blocks,) = structure.groups
    cut = structure.cut(net, structure.select({blocks.name: torch.tensor([1.0, 0.0])}, {blocks.name: 1})).eval()
    folded = structure.folded(cut)
    assert not norms(folded)
    torch.testing.assert_close(folded(IMAGES), cut(IMAGES), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_an_exported_graph_stays_as_it_is() -> None:
    net, structure = discovered("residual", "graph")
    cut = structure.cut(net, {})
    assert structure.folded(cut) is cut
