"""Operators besides layers: what they couple goes together, what they leave alone goes by itself, the rest stays."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

from autoprune.structure import Structure, discover

from . import (
    operator_nets_cells,
    operator_nets_constants,
    operator_nets_experts,
    operator_nets_mixing,
    operator_nets_ordered,
    operator_nets_places,
    operator_nets_products,
    operator_nets_signals,
)
from .zeros import close, kept_units, with_zeros

pytestmark = pytest.mark.slow

CASES = (
    operator_nets_constants.CASES
    | operator_nets_cells.CASES
    | operator_nets_places.CASES
    | operator_nets_products.CASES
    | operator_nets_experts.CASES
    | operator_nets_mixing.CASES
    | operator_nets_ordered.CASES
    | operator_nets_signals.CASES
)


@cache
def found(name: str) -> Structure:
    return discover(CASES[name].net(), CASES[name].example(4))


@pytest.mark.parametrize("name", CASES)
def test_offers_every_unit_that_can_go(name: str) -> None:
    case, structure = CASES[name], found(name)
    assert ({g.name: g.units for g in structure.groups}, structure.form) == (case.cut, case.form)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.cut])
def test_cut_equals_a_net_with_zeros(name: str) -> None:
    case, structure = CASES[name], found(name)
    dense = case.net()
    for seed, share in ((1, 0.3), (2, 0.4)):
        kept = kept_units(structure, share, seed)
        small, zeros = structure.cut(dense, kept).eval(), with_zeros(case.net(), structure.plan(dense, kept).kept)
        for samples in (1, 6):  # discovery saw four
            inputs = case.example(samples, seed=samples)
            with torch.no_grad():
                close(small(*inputs), zeros(*inputs))
                close(structure.masked(dense, kept)(*inputs), zeros(*inputs))
        cut = {g.name: g.units - len(kept[g.name]) for g in structure.groups}
        assert structure.costs(cut).params == sum(p.numel() for p in small.parameters())
    small.train()
    small(*case.example(4)).square().mean().backward()
    torch.optim.SGD(small.parameters(), lr=0.1).step()
    assert all(p.isfinite().all() for p in small.parameters())


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("along-the-units", "i", "scatter_add picks them by number"),
        ("part-of-the-units", "i", "gather takes a part of them"),
        ("stacked-experts", "r", "softmax runs over them"),
        ("bag-weighted", "w", "reads them whole"),
        ("deformed", "f", "reads them as places"),
        ("mixed-tokens", "b", "mixes them with what cannot be cut"),
        ("mixed-with-neighbours", "i", "runs along another dimension than the units"),
        ("mixed-and-normed", "a", "softmax runs over them"),
        ("mixed-and-joined", "a", "knows units along another dimension alone"),
        ("largest-units", "i", "topk runs over them"),
        ("picked-experts", "r", "softmax runs over them"),
        ("mixed-units-by-frequencies", "i", "fft_fft2 mixes them"),
    ],
)
def test_says_why_units_stay(name: str, layer: str, reason: str) -> None:
    assert reason in " | ".join(uncut.reason for uncut in found(name).uncut if uncut.layer == layer)


@pytest.mark.parametrize("name", ["gru-cell", "lstm-cell", "relu-cell", "bag-mean", "bilinear", "bilinear-of-steps"])
def test_modules_know_their_new_sizes(name: str) -> None:
    """A new module of those sizes has tensors of the same shapes."""
    case, structure = CASES[name], found(name)
    small = structure.cut(case.net(), kept_units(structure, 0.4, seed=1))
    made: dict[str, nn.Module] = {}
    for part, module in small.named_children():
        match module:
            case nn.RNNCell():
                made[part] = nn.RNNCell(module.input_size, module.hidden_size, module.bias)
            case nn.RNNCellBase():
                made[part] = type(module)(module.input_size, module.hidden_size)
            case nn.EmbeddingBag():
                made[part] = nn.EmbeddingBag(module.num_embeddings, module.embedding_dim)
            case nn.Bilinear():
                sizes = module.in1_features, module.in2_features, module.out_features
                made[part] = nn.Bilinear(*sizes, bias=module.bias is not None)
    assert made
    for part, module in made.items():
        shapes = {key: tensor.shape for key, tensor in module.state_dict().items()}
        assert shapes == {key: tensor.shape for key, tensor in small.get_submodule(part).state_dict().items()}


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("gru-cell", 4 * (6 * 12 + 3 * 16 * 12 + 3 * 16 * 16) + 16 * 3),
        ("lstm-cell", 4 * (4 * 16 * 6 + 4 * 16 * 16) + 16 * 3),
        ("bilinear", 8 * 12 + 8 * 10 + 12 * 10 * 14 + 14 * 4),
        ("bag-mean", 16 * 24 + 24 * 4),
        ("matrix-times-vector", 8 * 16 + 16),
        ("vector-dots", 2 * 8 * 16 + 16),
        ("mixed-tokens", 5 * 6 * 12 + 2 * 12 * 5 * 10 + 5 * 12 * 4),
        ("mixed-by-einsum", 5 * 6 * 12 + 2 * 12 * 5 * 10 + 5 * 12 * 4),
        ("mixed-by-convolutions", 5 * 6 * 12 + 2 * 12 * 5 * 10 + 5 * 12 * 4),
        ("stacked-experts", 8 * 3 + 3 * 8 * 16 + 3 * 16 * 4 + 3 * 4),
    ],
)
def test_counts_products(name: str, macs: int) -> None:
    assert found(name).dense_costs.macs == macs


@pytest.mark.parametrize(
    ("name", "cut", "macs"),
    [
        ("gru-cell", {"i": 4, "c": 6}, 4 * (6 * 8 + 3 * 10 * 8 + 3 * 10 * 10) + 10 * 3),
        ("mixed-tokens", {"i": 5, "a": 4}, 5 * 6 * 7 + 2 * 7 * 5 * 6 + 5 * 7 * 4),
        ("stacked-experts", {"w": 9}, 8 * 3 + 3 * 8 * 7 + 3 * 7 * 4 + 3 * 4),
    ],
)
def test_costs_of_a_cut_net_are_those_of_a_small_one(name: str, cut: dict[str, int], macs: int) -> None:
    assert found(name).costs(cut).macs == macs
