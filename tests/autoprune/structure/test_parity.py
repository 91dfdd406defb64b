"""A cut model equals the masked original, for every way in which units get coupled."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from autoprune.structure import Structure

from .nets import CASES, Case, discovered, example

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")]

SEQUENCES = {name for name, case in CASES.items() if case.tokens is not None}
AVERAGING = {"group-norms", "convnext"} | SEQUENCES - {"recurrent", "projected"}
"""Nets whose norms average over what is cut: the plain masked net differs from the cut one by design."""


@pytest.fixture(scope="module", params=CASES)
def found(request: pytest.FixtureRequest) -> tuple[str, Case, nn.Module, Structure]:
    return request.param, CASES[request.param], *discovered(request.param)


def candidate(structure: Structure, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for group in structure.groups:
        stays = int(torch.randint(1, group.units + 1, (), generator=generator))
        kept[group.name] = torch.randperm(group.units, generator=generator)[:stays].sort().values
    return kept


def masked_by_slices(net: nn.Module, structure: Structure, kept: dict[str, Tensor]) -> nn.Module:
    """A reference that shares nothing with the engine but the groups: zeros written through their slices."""
    net = copy.deepcopy(net)
    tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    with torch.no_grad():
        for group in structure.groups:
            gone = [u for u in range(group.units) if u not in kept[group.name].tolist()]
            for part in group.slices:
                for unit in gone:
                    tensors[part.parameter].index_fill_(part.dim, part.index[unit], 0.0)
    return net


def test_offers_every_unit_that_can_go(found: tuple[str, Case, nn.Module, Structure]) -> None:
    _, case, _, structure = found
    assert {group.name: group.units for group in structure.groups} == case.cut


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cut_equals_masked(found: tuple[str, Case, nn.Module, Structure], seed: int) -> None:
    name, case, net, structure = found
    kept = candidate(structure, seed)
    inputs = example(case, samples=3, seed=seed)  # another batch size than discovery saw
    with torch.no_grad():
        small = structure.cut(net, kept)(*inputs)
        torch.testing.assert_close(small, structure.masked(net, kept)(*inputs), atol=1e-5, rtol=1e-5)
        if name not in AVERAGING:
            torch.testing.assert_close(small, masked_by_slices(net, structure, kept)(*inputs), atol=1e-5, rtol=1e-5)
        assert not torch.allclose(small, net(*inputs), atol=1e-4), "nothing was cut"


def test_a_cut_that_shares_copies_what_changes_alone(found: tuple[str, Case, nn.Module, Structure]) -> None:
    """One group after the other: the same predictions, and what is as large as before is the dense net's own."""
    _, case, net, structure = found
    inputs = example(case, samples=3, seed=7)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    for name, units in candidate(structure, 7).items():
        kept = {name: units}
        shared, separate = structure.cut(net, kept, share=True), structure.cut(net, kept)
        with torch.no_grad():
            assert torch.equal(shared(*inputs), separate(*inputs))
        if structure.form == "modules":
            own = {id(tensor) for tensor in net.state_dict(keep_vars=True).values()}
            for tensor_name, tensor in shared.state_dict(keep_vars=True).items():
                assert (id(tensor) in own) == (tensor.shape == before[tensor_name].shape), tensor_name
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_costs_equal_what_is_counted(found: tuple[str, Case, nn.Module, Structure]) -> None:
    name, case, net, structure = found
    kept = candidate(structure, 4)
    small = structure.cut(net, kept)
    costs = structure.costs({group.name: group.units - len(kept[group.name]) for group in structure.groups})
    assert costs.params == sum(p.numel() for p in small.parameters())
    tensors = {id(t): t for t in (*small.parameters(), *small.buffers())}
    assert costs.bytes == sum(t.numel() * t.element_size() for t in tensors.values())
    if name not in SEQUENCES:
        assert costs.macs == count_macs(small, example(case, samples=1))


def test_sizes_that_modules_keep_fit(found: tuple[str, Case, nn.Module, Structure]) -> None:
    _, _, net, structure = found
    small = structure.cut(net, candidate(structure, 5))
    for name, module in small.named_modules():
        if isinstance(module, nn.Conv2d):
            assert module.weight.shape[:2] == (module.out_channels, module.in_channels // module.groups), name
        if isinstance(module, nn.ConvTranspose2d):
            assert module.weight.shape[:2] == (module.in_channels, module.out_channels // module.groups), name
        if isinstance(module, nn.Linear):
            assert module.weight.shape == (module.out_features, module.in_features), name
        if isinstance(module, nn.BatchNorm2d):
            assert len(module.weight) == module.num_features, name
        if isinstance(module, nn.LayerNorm):
            assert tuple(module.weight.shape) == module.normalized_shape, name
        if isinstance(module, nn.GroupNorm):
            assert len(module.weight) == module.num_channels, name


def test_trains_after_the_cut_and_leaves_the_dense_net_alone(found: tuple[str, Case, nn.Module, Structure]) -> None:
    _, case, net, structure = found
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    small = structure.cut(net, candidate(structure, 6)).train()
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1)
    small(*example(case, samples=4)).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert not net.training


def count_macs(net: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    """Multiply-accumulates by hooks on the layers as they run: independent of the graph."""
    total = 0

    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += module.weight.numel() * (output.numel() // output.shape[-1])
        else:
            positions = args[0] if module.transposed else output
            total += module.weight.numel() * (positions.numel() // positions.shape[1])

    for module in net.modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            module.register_forward_hook(hook)
    with torch.no_grad():
        net(*inputs)
    return total


@pytest.mark.parametrize("name", sorted(SEQUENCES - {"recurrent", "projected"}))
def test_macs_of_attention_equal_the_flop_counter(name: str) -> None:
    net, structure = discovered(name)
    kept = candidate(structure, 4)
    # The counter knows the plain products, not the fused kernel.
    with FlopCounterMode(display=False) as counter, torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        structure.cut(net, kept)(*example(CASES[name], samples=1))
    cut_units = {group.name: group.units - len(kept[group.name]) for group in structure.groups}
    assert structure.costs(cut_units).macs == counter.get_total_flops() // 2


def test_macs_of_recurrent_layers_equal_the_formula() -> None:
    _, structure = discovered("recurrent")
    embedding, lstm, gru, steps = 10 - 3, 6 - 2, 5 - 1, 7
    first = 2 * 4 * lstm * (embedding + lstm)
    second = 2 * 4 * lstm * (2 * lstm + lstm)
    third = 3 * gru * (2 * lstm + gru)
    macs = structure.costs({"embedding": 3, "lstm": 2, "gru": 1}).macs
    assert macs == steps * (first + second + third) + gru * 3
