"""Operators met in published models: nets of one each, against the net with zeros."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure import Structure, discover

from .operator_nets import OperatorCase, rows, steps
from .zeros import close, kept_units, with_zeros

pytestmark = pytest.mark.slow


def _experts(m: Any, x: Tensor) -> Tensor:
    """A mixture of experts: every row is multiplied by the matrices of its own."""
    x = F.relu(m.i(x))
    weight, expert = m.r(x).softmax(-1).topk(1)
    made = F.relu(torch.bmm(m.up[expert.view(-1)], x[..., None]))
    return m.o(x + torch.bmm(m.down[expert.view(-1)], made).squeeze(-1) * weight)


def _sorted_experts(m: Any, x: Tensor) -> Tensor:
    """The same with an operator of transformers."""
    product = torch.ops.transformers.grouped_mm_fallback
    x = F.relu(m.i(x))
    weight, expert = m.r(x).softmax(-1).topk(1)
    expert, order = torch.sort(expert.view(-1))
    offsets = (expert[None] <= torch.arange(3)[:, None]).sum(1).int()
    made = F.relu(product(x[order], m.up.transpose(1, 2), offsets))
    made = product(made, m.down.transpose(1, 2), offsets)
    return m.o(x + made[torch.argsort(order)] * weight)


def _gated_weight(m: Any, x: Tensor) -> Tensor:
    """A gate over the weight of a layer: its rows go in pairs, its columns as they come."""
    return m.o(F.linear(F.relu(m.i(x)), F.glu(m.w, 0)))


def _stack(*shape: int) -> nn.Parameter:
    return nn.Parameter(0.3 * torch.randn(*shape))


_EXPERTS = {
    "i": lambda: nn.Linear(8, 16),
    "r": lambda: nn.Linear(16, 3),
    "up": lambda: _stack(3, 24, 16),
    "down": lambda: _stack(3, 16, 24),
    "o": lambda: nn.Linear(16, 3),
}
CASES = {
    "largest-steps": OperatorCase(
        lambda m, x: m.o(m.i(x).topk(2, dim=1).values.flatten(1)),
        {"i": lambda: nn.Linear(6, 12), "o": lambda: nn.Linear(24, 3)},
        steps,
        {"i": 12},
        "modules",
    ),
    "largest-units": OperatorCase(
        lambda m, x: m.o(m.i(x).topk(4).values),
        {"i": lambda: nn.Linear(8, 12), "o": lambda: nn.Linear(4, 3)},
        rows,
        {},
        "modules",
    ),
    "steps-in-order": OperatorCase(
        lambda m, x: m.o(torch.sort(m.i(x), stable=True, dim=1).values),
        {"i": lambda: nn.Linear(6, 12), "o": lambda: nn.Linear(12, 3)},
        steps,
        {"i": 12},
        "modules",
    ),
    "gated-weight": OperatorCase(
        _gated_weight,
        {"i": lambda: nn.Linear(8, 12), "w": lambda: _stack(10, 12), "o": lambda: nn.Linear(5, 3)},
        rows,
        {"i": 12, "w": 5},
        "modules",
    ),
    "picked-experts": OperatorCase(_experts, _EXPERTS, rows, {"i": 16, "up": 24}, "modules"),
}
if importlib.util.find_spec("transformers"):
    CASES["sorted-experts"] = OperatorCase(_sorted_experts, _EXPERTS, rows, {}, "modules")


@cache
def found(name: str) -> Structure:
    if name == "sorted-experts":
        importlib.import_module("transformers.integrations.moe")  # makes the operator
    return discover(CASES[name].net(), CASES[name].example(4))


@pytest.mark.parametrize("name", CASES)
def test_offers_every_unit_that_can_go(name: str) -> None:
    case, structure = CASES[name], found(name)
    assert ({g.name: g.units for g in structure.groups}, structure.form) == (case.cut, case.form)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.cut])
def test_cut_equals_a_net_with_zeros(name: str) -> None:
    case, structure = CASES[name], found(name)
    dense = case.net()
    for seed in (1, 2):
        kept = kept_units(structure, 0.4, seed)
        small, zeros = structure.cut(dense, kept).eval(), with_zeros(case.net(), structure.plan(dense, kept).kept)
        for samples in (1, 6):  # discovery saw four
            inputs = case.example(samples, seed=samples)
            with torch.no_grad():
                close(small(*inputs), zeros(*inputs))
        cut = {g.name: g.units - len(kept[g.name]) for g in structure.groups}
        assert structure.costs(cut).params == sum(p.numel() for p in small.parameters())


@pytest.mark.parametrize(
    ("name", "layer", "reason"),
    [
        ("largest-units", "i", "topk runs over them"),
        ("picked-experts", "r", "softmax runs over them"),
        ("sorted-experts", "i", "make the model with experts_implementation='batched_mm'"),
    ],
)
def test_says_why_units_stay(name: str, layer: str, reason: str) -> None:
    if name not in CASES:
        pytest.skip("its package is not installed")
    assert reason in " | ".join(uncut.reason for uncut in found(name).uncut if uncut.layer == layer)


def test_counts_the_products_of_experts() -> None:
    structure = found("picked-experts")
    assert structure.dense_costs.macs == 8 * 16 + 16 * 3 + 16 * 24 + 24 * 16 + 16 * 3
    assert structure.costs({"i": 6, "up": 9}).macs == 8 * 10 + 10 * 3 + 10 * 15 + 15 * 10 + 10 * 3


class WithForeignOperator(nn.Module):
    """Can be cut as a graph alone, which calls what is none of PyTorch's operators."""

    def __init__(self) -> None:
        super().__init__()
        self.i, self.o = nn.Linear(8, 16), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.o(torch.ops.autoprune_tests.doubled(self.i(x)).view(-1, 16))


def test_a_graph_that_could_not_be_opened_is_not_offered() -> None:
    with torch.library._scoped_library("autoprune_tests", "DEF") as library:
        library.define("doubled(Tensor x) -> Tensor", tags=torch.Tag.pointwise)
        library.impl("doubled", lambda x: 2 * x, "CompositeExplicitAutograd")
        network = WithForeignOperator()
        with pytest.raises(StructureError, match="autoprune_tests::doubled, which is none of PyTorch's operators"):
            discover(network, torch.randn(2, 8), form="graph")
        assert discover(network, torch.randn(2, 8)).form == "modules"


class WiderWhenTraced(nn.Module):
    """Makes a mask while it is traced that does not fit."""

    def __init__(self) -> None:
        super().__init__()
        self.i = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.i(x)
        return x + torch.ones(5) if torch.compiler.is_exporting() else x


def test_an_operator_that_fails_in_a_trace_is_told_in_one_line() -> None:
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = told.append  # type: ignore[method-assign]
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log.addHandler(handler)
    try:
        with pytest.raises(StructureError, match=rf"{__file__}:\d+") as error:
            discover(WiderWhenTraced(), torch.randn(2, 8))
    finally:
        log.removeHandler(handler)
    assert (len(str(error.value).splitlines()), told) == (1, [])
