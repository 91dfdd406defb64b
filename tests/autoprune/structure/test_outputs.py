"""What counts of what a network returns: the rest does not keep units, and need not be of a type that is known."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Inputs
from autoprune.structure import Structure, discover, load_program, save_program
from autoprune.structure.graph.outputs import counting

from .test_parity import candidate


class Cache:
    """As a library's own, which ``torch.export`` does not know."""

    def __init__(self, keys: Tensor) -> None:
        self.keys = keys


class Output(OrderedDict[str, Any]):
    """As transformers': a mapping whose entries are attributes, too."""

    @property
    def logits(self) -> Tensor:
        return self["logits"]  # type: ignore[no-any-return]


class Talker(nn.Module):
    """Returns what was asked, its hidden states and a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Linear(5, 8), nn.Linear(8, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Output:
        x = self.a(x).relu()
        y = self.b(x).relu()
        return Output(logits=self.head(y), cache=Cache(y), hidden=(x, y), steps=2, nothing=None)


@pytest.fixture
def net() -> Talker:
    torch.manual_seed(0)
    return Talker().eval()


def units(structure: Structure) -> dict[str, int]:
    return {group.name: group.units for group in structure.groups}


@pytest.mark.parametrize("form", ["modules", "graph"])
def test_what_does_not_count_does_not_keep_units(net: Talker, form: Any) -> None:
    x = torch.randn(2, 5)
    structure = discover(net, x, form=form, counts=lambda returned: returned["logits"])
    assert units(structure) == {"a": 8, "b": 12}
    kept = candidate(structure, 0)
    with torch.no_grad():
        small, masked = structure.cut(net, kept)(x), structure.masked(net, kept)(x)
    torch.testing.assert_close(small["logits"], masked["logits"], atol=1e-5, rtol=0)
    if form == "modules":
        assert isinstance(small, Output)
        assert small["hidden"][0].shape == (2, len(kept["a"]))
    else:
        assert list(small) == ["logits"]
    assert not net._forward_hooks


def test_several_may_count(net: Talker) -> None:
    structure = discover(net, torch.randn(2, 5), counts=lambda r: {"one": r["logits"], "other": r["hidden"][0]})
    assert units(structure) == {"b": 12}


def test_all_tensors_count_unless_told(net: Talker) -> None:
    structure = discover(net, torch.randn(2, 5))
    assert units(structure) == {}
    assert {uncut.reason for uncut in structure.uncut} == {"it is an output of the model"}


def test_what_counts_may_be_computed(net: Talker) -> None:
    structure = discover(net, torch.randn(2, 5), counts=lambda returned: returned["hidden"][1].sum(1))
    assert units(structure) == {"a": 8, "b": 12, "head": 3}


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        (lambda r: r["logits"], ["logits"]),
        (lambda r: r["hidden"][1], ["hidden"]),
        (None, ["logits", "hidden", "steps"]),
    ],
)
def test_each_tensor_stays_where_it_was(net: Talker, counts: Any, expected: list[str]) -> None:
    x = torch.randn(2, 5)
    before = net(x)
    with counting(net, counts):
        returned = net(x)
    assert type(returned) is dict
    assert list(returned) == expected
    if "hidden" in expected:
        assert torch.equal(returned["hidden"][1], before["hidden"][1])
        assert (returned["hidden"][0] is None) == (counts is not None)
    assert isinstance(net(x), Output), "as it was"


def test_a_bare_tensor_stays_one() -> None:
    net = nn.Linear(3, 2)
    with counting(net, lambda returned: returned), counting(net):
        assert net(torch.ones(1, 3)).shape == (1, 2)


def test_a_saved_program_returns_plain_containers(net: Talker, tmp_path: Any) -> None:
    save_program(net, Inputs.of(torch.randn(2, 5)), tmp_path / "net.pt2")
    x = torch.randn(4, 5)
    with torch.no_grad():
        said, expected = load_program(tmp_path / "net.pt2")(x), net(x)
    assert list(said) == ["logits", "hidden", "steps"]
    torch.testing.assert_close(said["logits"], expected.logits)
