"""Activations per unit against plain forward hooks."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Group, Inputs, Slice
from autoprune.toolkit.activations import Activations, Place, activations


def each(units: int, index: list[list[int]] | None = None) -> Tensor:
    return torch.arange(units)[:, None] if index is None else torch.tensor(index)


def group(name: str, units: int, *slices: Slice) -> Group:
    return Group(name, units, "channel", (name,), slices)


def batches(inputs: Tensor, size: int = 4) -> list[tuple[Inputs, Tensor]]:
    return [(Inputs.of(part), torch.zeros(len(part))) for part in inputs.split(size)]


class Net(nn.Module):
    """stem (+ skip) → bn → relu → grouped → relu, in place → up → hidden → out, on (N, 2, 4, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.skip = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(2, 6, 1, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.grouped = nn.Conv2d(6, 4, 1, groups=2)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.hidden, self.out = nn.Linear(3 * 64, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.stem(x) + self.skip(x)).relu()
        x = self.up(self.grouped(x).relu_())
        return self.out(self.hidden(x.flatten(1)).relu_())


GROUPS = (
    group(
        "stem",
        3,  # the second convolution's groups tie each channel to the one three places on
        Slice("stem.weight", 0, each(3, [[0, 3], [1, 4], [2, 5]]), "output"),
        Slice("skip.weight", 0, each(3, [[0, 3], [1, 4], [2, 5]]), "output"),
        Slice("bn.weight", 0, each(3, [[0, 3], [1, 4], [2, 5]]), "vector"),
        Slice("grouped.weight", 1, each(3), "input"),
    ),
    group("grouped", 4, Slice("grouped.weight", 0, each(4), "output"), Slice("up.weight", 0, each(4), "input")),
    group(
        "up",
        3,
        Slice("up.weight", 1, each(3), "output"),
        Slice("hidden.weight", 1, torch.arange(192).reshape(3, 64), "input"),
    ),
    group("hidden", 5, Slice("hidden.weight", 0, each(5), "output"), Slice("out.weight", 1, each(5), "input")),
)


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(10, 2, 4, 4, generator=torch.Generator().manual_seed(1))


def caught(net: nn.Module, inputs: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Of each layer what it took and gave, in one pass."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = [
        module.register_forward_hook(
            lambda _, args, output, name=name: found.__setitem__(name, (args[0].clone(), output.clone()))
        )
        for name, module in net.named_modules()
        if name
    ]
    net(inputs)
    for hook in hooks:
        hook.remove()
    return found


def check(found: Activations, expected: Tensor) -> None:
    """Against all values of all units, (N, U, any number)."""
    expected = expected.detach()
    assert torch.allclose(found.mean, expected.mean((0, 2)), atol=1e-6)
    assert torch.allclose(found.square, expected.square().mean((0, 2)), atol=1e-6)
    assert torch.equal(found.zeros, (expected == 0).double().mean((0, 2)).float())
    assert found.samples is not None
    assert torch.allclose(found.samples, expected.mean(2), atol=1e-6)


def test_what_units_are_made_as(net: Net, images: Tensor) -> None:
    seen = {name: gave for name, (_, gave) in caught(net, images).items()}
    found = activations(net, net, GROUPS, batches(images), at="made")
    assert list(found) == ["stem", "grouped", "up", "hidden"]
    both = torch.cat([seen[name].reshape(10, 2, 3, 16).transpose(1, 2).flatten(2) for name in ("stem", "skip")], 2)
    check(found["stem"], both)
    check(found["grouped"], seen["grouped"].flatten(2))
    check(found["up"], seen["up"].flatten(2))
    check(found["hidden"], seen["hidden"][:, :, None])
    assert not found["hidden"].zeros.any(), "seen before the non-linearity, though that works in place"


def test_what_units_are_read_as(net: Net, images: Tensor) -> None:
    seen = {name: took for name, (took, _) in caught(net, images).items()}
    found = activations(net, net, GROUPS, batches(images), at="read")
    check(found["stem"], seen["grouped"].reshape(10, 2, 3, 16).transpose(1, 2).flatten(2))
    check(found["grouped"], seen["up"].flatten(2))
    check(found["up"], seen["hidden"].reshape(10, 3, 64))
    check(found["hidden"], seen["out"][:, :, None])
    assert found["grouped"].zeros.any()


@pytest.mark.parametrize("at", ["made", "read"])
def test_an_mlp_on_sequences_behind_a_wrapper(at: Place) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2))
    network[3].weight = network[1].weight = nn.Parameter(torch.randn(8, 8))  # tied: one name, two layers
    network[0] = nn.Embedding(9, 8)

    class Wrapped(nn.Module):
        def forward(self, tokens: Tensor) -> Tensor:
            return network(tokens + 1)

    words = group("0", 8, Slice("0.weight", 1, each(8), "output"), Slice("1.weight", 1, each(8), "input"))
    neurons = group("1", 8, Slice("1.weight", 0, each(8), "output"), Slice("4.weight", 1, each(8), "input"))
    tokens = torch.randint(0, 8, (6, 5), generator=torch.Generator().manual_seed(0))
    seen = caught(network, tokens + 1)
    found = activations(Wrapped(), network, (words, neurons), batches(tokens), at=at)
    turned = {name: [part.transpose(1, 2) for part in pair if part.dim() == 3] for name, pair in seen.items()}
    if at == "made":
        check(found["0"], turned["0"][-1])
        check(found["1"], torch.cat([turned["1"][1], turned["3"][1]], 2))
    else:
        check(found["0"], torch.cat([turned["1"][0], turned["3"][0]], 2))
        check(found["1"], turned["4"][0])


def test_one_pass_serves_all_groups_and_leaves_no_trace(net: Net, images: Tensor) -> None:
    before = copy.deepcopy(net.state_dict())
    passes: list[bool] = []
    hook = net.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    activations(net, net, GROUPS, batches(images, 5), at="read")
    hook.remove()
    assert passes == [False, False]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_hooks_go_if_the_model_breaks(net: Net) -> None:
    with pytest.raises(RuntimeError):
        activations(net, net, GROUPS, batches(torch.zeros(2, 3, 4, 4)), at="made")
    assert not any(module._forward_hooks for module in net.modules())


def test_groups_that_no_layer_tells_about_are_left_out(net: Net, images: Tensor) -> None:
    mask = Group("hidden.weight", 960, "weight", ("hidden",), masked="hidden.weight")
    vectors = group("bn", 6, Slice("bn.weight", 0, each(6), "vector"))
    assert not activations(net, net, (mask, vectors), batches(images), at="made")

    class Around(nn.Module):
        """Uses the first layer's weight without calling it."""

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.conv2d(x, net.stem.weight)

    assert not activations(Around(), net, GROUPS, batches(images), at="made")


def test_samples_are_told_only_where_they_come_first() -> None:
    layer = nn.Linear(3, 4)

    class TimeFirst(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return layer(x.transpose(0, 1))

    neurons = group("layer", 4, Slice("weight", 0, each(4), "output"))
    steps = torch.randn(4, 7, 3)
    found = activations(TimeFirst(), layer, (neurons,), batches(steps), at="made")["layer"]
    assert found.samples is None
    assert torch.allclose(found.mean, layer(steps).mean((0, 1)), atol=1e-6)
