"""Blocks, weights, kernels and N:M: what is found, that cuts equal their references, what they cost, that they stay."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Group, SourceContext
from autoprune.structure import Structure, discover, load_pruned, write_pruned
from autoprune.structure.groups.masks import pattern

from .nets import CASES, discovered, example, perturb
from .toy_source import Toy


class Block(nn.Module):
    def __init__(self, width: int, inner: int, *, skip: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, inner, 3, padding=1)
        self.norm = nn.BatchNorm2d(inner)
        self.second = nn.Conv2d(inner, width, 3, padding=1)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.second(self.norm(self.first(x)).relu())
        return (x + y).relu() if self.skip else y.relu()


def resnet() -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
    stage = nn.Sequential(Block(16, 8), Block(16, 24), Block(16, 16, skip=False), Block(16, 8))
    net = nn.Sequential(stem, stage, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 3))
    perturb(net)
    return net.eval()


IMAGES = (torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1)),)


def lost(structure: Structure, share: float) -> dict[str, int]:
    return {g.name: g.step if g.step > 1 else int(share * g.units) for g in structure.groups}


def scores(structure: Structure, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {g.name: torch.rand(g.units, generator=generator) for g in structure.groups}


def only(structure: Structure, granularity: str) -> list[Group]:
    return [group for group in structure.groups if group.granularity == granularity]


@pytest.mark.slow
def test_blocks_are_what_has_a_way_around_it() -> None:
    (blocks,) = discover(resnet(), IMAGES, ["blocks"]).groups
    assert (blocks.name, blocks.units, blocks.layers) == ("blocks", 3, ("1.0", "1.1", "1.3"))
    assert blocks.owned[0] == ("1.0.first.weight", "1.0.first.bias", "1.0.norm.weight", "1.0.norm.bias",
                               "1.0.second.weight", "1.0.second.bias")  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vgg", "dense", "u-net", "inception", "shuffle", "recurrent"])
def test_nothing_else_is_a_block(name: str) -> None:
    net, _ = discovered(name)
    assert not discover(net, example(CASES[name]), ["blocks"]).groups


@pytest.mark.slow
def test_transformer_layers_are_blocks_before_and_after_their_norms() -> None:
    for name, kind in (("encoder-layers", "TransformerEncoderLayer"), ("decoder-layers", "TransformerDecoderLayer")):
        net, _ = discovered(name)
        layers = [n for n, m in net.named_modules() if type(m).__name__ == kind]
        found = discover(net, example(CASES[name]), ["blocks"]).groups
        assert [layer for group in found for layer in group.layers] == (layers if len(layers) > 1 else [])


def test_without_blocks_the_network_is_what_its_identity_paths_make_of_it() -> None:
    net = resnet()
    structure = discover(net, IMAGES, ["blocks"])
    small = structure.cut(net, {"blocks": torch.tensor([1])})
    by_hand = copy.deepcopy(net)
    by_hand[1] = nn.Sequential(net[1][1], net[1][2])  # inputs of all of them are positive: relu(x + 0) = x
    with torch.no_grad():
        assert torch.equal(small(*IMAGES), by_hand(*IMAGES))
    assert structure.costs({"blocks": 2}, structure.bypassed({"blocks": torch.tensor([1])})).params == sum(
        p.numel() for p in small.parameters()
    )


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["weights", "kernels", "2:4", "1:4", "4:8"])
@pytest.mark.parametrize("share", [0.25, 0.4])
def test_everything_at_once_equals_the_reference_and_costs_what_is_counted(masks: str, share: float) -> None:
    net = resnet()
    structure = discover(net, IMAGES, ["channels", "blocks", masks])
    cut_units = lost(structure, share)
    kept = structure.select(scores(structure), cut_units)
    small = structure.cut(net, kept)
    with torch.no_grad():
        torch.testing.assert_close(small(*IMAGES), structure.masked(net, kept)(*IMAGES), atol=1e-5, rtol=1e-5)
    costs = structure.costs(cut_units, structure.bypassed(kept))
    assert costs.params == sum(p.numel() for p in small.parameters())
    assert costs.nonzero == sum(int((p != 0).sum()) for p in small.parameters())
    assert costs.nonzero < costs.params


@pytest.mark.slow
@pytest.mark.parametrize("masks", ["2:4", "1:4", "4:8"])
def test_of_each_m_weights_n_stay_and_they_are_the_best(masks: str) -> None:
    net = resnet()
    structure = discover(net, IMAGES, [masks])
    n, m = pattern(masks)  # type: ignore[misc]
    ranked = {g.name: dict(net.named_parameters())[g.masked].detach().abs().flatten() for g in structure.groups}
    small = structure.cut(net, structure.select(ranked, lost(structure, 0.8)))
    assert {g.name for g in only(structure, masks)} == {
        name for name, p in net.named_parameters() if p.ndim > 1 and p.shape[1] % m == 0
    }
    for group in structure.groups:
        weight = small.get_parameter(group.masked).detach().movedim(1, -1).reshape(-1, m)
        dense = net.get_parameter(group.masked).detach().movedim(1, -1).reshape(-1, m)
        assert ((weight != 0).sum(1) == n).all()
        torch.testing.assert_close(weight.abs().sum(1), dense.abs().topk(n).values.sum(1))


def test_kernels_go_whole() -> None:
    net = resnet()
    structure = discover(net, IMAGES, ["kernels"])
    small = structure.cut(net, structure.select(scores(structure), lost(structure, 0.5)))
    for group in structure.groups:
        empty = (small.get_parameter(group.masked).flatten(2) == 0).sum(2)
        assert set(empty.unique().tolist()) == {0, 9}
        assert (empty == 9).sum() == group.units // 2


def test_layers_that_a_pattern_does_not_fit_are_named() -> None:
    structure = discover(resnet(), IMAGES, ["2:4"])
    assert [(u.layer, u.reason) for u in structure.uncut] == [("0.0", "2:4 needs a multiple of 4 inputs: 3")]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_zeros_stay_zero_in_training(optimizer: type[torch.optim.Optimizer]) -> None:
    net = resnet()
    structure = discover(net, IMAGES, ["channels", "weights"])
    small = structure.cut(net, structure.select(scores(structure), lost(structure, 0.5))).train()
    before = {name: p.detach() != 0 for name, p in small.named_parameters()}
    momentum = {"momentum": 0.9, "nesterov": True} if optimizer is torch.optim.SGD else {}
    steps = optimizer(small.parameters(), lr=0.1, weight_decay=0.1, **momentum)  # type: ignore[call-arg]
    for _ in range(3):
        steps.zero_grad()
        small(*IMAGES).square().mean().backward()
        steps.step()
    masked = {group.masked for group in structure.groups if group.masked}
    for name, p in small.named_parameters():
        if name in masked:
            assert torch.equal(p.detach() != 0, before[name]), name
    assert any((~before[name]).any() for name in masked)


@pytest.mark.slow
def test_a_saved_model_keeps_its_zeros_and_its_missing_blocks(tmp_path: Path) -> None:
    net, _ = discovered("encoder-layers")
    inputs = example(CASES["encoder-layers"])
    structure = discover(net, inputs, ["channels", "blocks", "weights"])
    cut_units = lost(structure, 0.5)
    kept = structure.select(scores(structure), cut_units)
    small = structure.cut(net, kept)
    write_pruned(
        tmp_path,
        small,
        plan=structure.plan(net, kept),
        kept=kept,
        cut_units=cut_units,
        source=Toy(case="encoder-layers"),
        ctx=SourceContext(folder=tmp_path, cache=tmp_path, seed=0),
    )
    opened = load_pruned(tmp_path, dense=CASES["encoder-layers"].make())
    with torch.no_grad():
        assert torch.equal(opened(*inputs), small(*inputs))
    opened(*inputs).square().mean().backward()
    torch.optim.SGD(opened.parameters(), lr=0.1).step()
    masked = {group.masked for group in structure.groups if group.masked}
    there = [name for name, _ in small.named_parameters() if name in masked]
    assert 0 < len(there) < len(masked), "one of two layers is gone"
    for name in there:
        assert torch.equal(opened.get_parameter(name) == 0, small.get_parameter(name) == 0), name
        assert (small.get_parameter(name) == 0).any(), name


def test_weights_that_happen_to_be_zero_train_on() -> None:
    net = resnet()
    with torch.no_grad():
        net.get_parameter("1.0.first.weight")[:, 0, 0, 0] = 0  # of every filter one, since some filters may be dead
    structure = discover(net, IMAGES, ["weights"])
    name = "1.0.first.weight"
    keep = torch.ones(net.get_parameter(name).numel(), dtype=torch.bool)
    keep[-10:] = False
    small = structure.cut(net, {name: keep}).train()
    small(*IMAGES).square().mean().backward()
    torch.optim.SGD(small.parameters(), lr=1.0).step()
    weight = small.get_parameter(name)
    assert (weight[:, 0, 0, 0] != 0).any()
    assert (weight.flatten()[-10:] == 0).all()
