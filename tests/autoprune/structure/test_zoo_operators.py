"""Operators met in published models, beside those of `operator_nets`: other libraries', and what fails in a trace."""

from __future__ import annotations

import importlib
import logging
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autoprune.errors import StructureError
from autoprune.structure import discover

from .operator_nets import OperatorCase, rows
from .operator_nets_ordered import CASES, EXPERTS

pytestmark = pytest.mark.slow


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


def test_experts_of_another_library_s_operator_say_what_helps() -> None:
    importlib.import_module("transformers.integrations.moe")  # makes the operator
    case = OperatorCase(_sorted_experts, EXPERTS, rows, {}, "modules")
    structure = discover(case.net(), case.example(4))
    assert not structure.groups
    [reason] = [uncut.reason for uncut in structure.uncut if uncut.layer == "i"]
    assert "make the model with experts_implementation='batched_mm'" in reason


def test_counts_the_products_of_experts() -> None:
    case = CASES["picked-experts"]
    structure = discover(case.net(), case.example(4))
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
