"""Value objects of the contract: knobs, inputs, what a task picks, the table of kinds."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from autoprune import TrialError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Choice, Inputs, Metric, Range, Split, Task
from autoprune.plugin.kinds import KINDS
from autoprune.plugin.values import Cost
from autoprune.spec import Search, Spec


@pytest.mark.parametrize(
    ("bounds", "told"),
    [
        ({"low": 1.0, "high": 1.0}, "low 1 is not below high 1"),
        ({"low": 0.0, "high": math.inf}, "is not below"),
        ({"low": 0.0, "high": 1.0, "log": True}, "a log scale begins above 0"),
        ({"low": 1.5, "high": 4.0, "whole": True}, "whole bounds"),
        ({"low": 0.0, "high": 1.0, "usual": 2.0}, "2 does not lie between 0 and 1"),
    ],
)
def test_ranges_that_make_no_sense_are_refused(bounds, told):
    with pytest.raises(ValueError, match=f"knob: .*{told}"):
        Range("knob", **bounds)


def test_choices_need_two_different_options():
    for options in ((), ("a",), ("a", "a")):
        with pytest.raises(ValueError, match="two options or more"):
            Choice("knob", options)
    assert Choice("knob", ("a", "b")).default == "a"


@pytest.mark.parametrize(
    "knob", [Range("k", 2.0, 10.0), Range("k", 1e-4, 1e-1, log=True), Range("k", 1, 9, whole=True)]
)
def test_a_value_lies_where_its_place_is(knob):
    assert [knob.place(knob.at(place)) for place in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([0.0, 0.25, 0.5, 1.0])
    assert (knob.at(0.0), knob.at(1.0)) == (knob.low, knob.high)
    assert knob.default == knob.low


def test_a_log_range_has_equal_factors():
    assert Range("lr", 1e-4, 1e-2, log=True).at(0.5) == pytest.approx(1e-3)


def test_inputs_are_fed_as_they_came():
    def model(x, *, mask):
        return x * mask

    x, mask = torch.arange(6.0).view(3, 2), torch.tensor([[1.0], [0.0], [1.0]])
    inputs = Inputs((x,), {"mask": mask})
    assert torch.equal(inputs.feed(model), x * mask)
    assert torch.equal(inputs[torch.tensor([2, 0])].feed(model), (x * mask)[[2, 0]])
    assert torch.equal(inputs.with_first(x + 1).feed(model), (x + 1) * mask)
    assert (len(inputs), [tensor.shape[0] for tensor in inputs.tensors]) == (3, [3, 3])


@pytest.mark.parametrize(
    "given",
    [torch.ones(2, 3), (torch.ones(2, 3),), [torch.ones(2, 3)], {"x": torch.ones(2, 3)}, Inputs((torch.ones(2, 3),))],
)
def test_inputs_of_anything_that_a_loader_gives(given):
    inputs = Inputs.of(given)
    assert torch.equal(inputs.first, torch.ones(2, 3))
    assert bool(inputs.kwargs) == isinstance(given, dict)
    changed = inputs.with_first(torch.zeros(2, 3))
    assert torch.equal(changed.first, torch.zeros(2, 3))
    assert changed.kwargs.keys() == inputs.kwargs.keys()


def test_what_is_no_input_is_refused():
    with pytest.raises(TypeError, match="this is a str"):
        Inputs.of("text")
    with pytest.raises(ValueError, match="no tensor"):
        Inputs()


def test_splits_take_mappings_of_inputs_and_targets():
    images = torch.tensor([[0, 255], [51, 0]], dtype=torch.uint8)
    split = Split.of_tensors({"x": images}, {"a": torch.arange(2), "b": torch.ones(2, 3)})
    inputs, targets = split.fetch(torch.tensor([1]))
    assert torch.allclose(inputs.kwargs["x"], torch.tensor([[0.2, 0.0]]))
    assert (targets["a"].tolist(), targets["b"].shape) == ([1], (1, 3))
    (batch, mapped), *_ = split.batches(2, device="cpu")
    assert (len(batch), mapped["b"].shape) == (2, (2, 3))


@pytest.fixture(scope="module")
def task():
    def make(output=""):
        return Task.model_validate({"use": "classification", "output": output}, context=PluginHost())

    return make


X = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("returned", "output"),
    [
        (X, ""),
        ({"logits": X, "hidden": X + 1}, ""),
        (SimpleNamespace(logits=X, loss=None), ""),
        ((X,), ""),
        ([X + 1, X], "1"),
        ({"boxes": [X + 1, X]}, "boxes.1"),
        (SimpleNamespace(heads={"left": X}), "heads.left"),
    ],
)
def test_a_task_finds_its_tensor(task, returned, output):
    assert torch.equal(task(output).pick(returned), X)


@pytest.mark.parametrize(
    ("returned", "output", "told"),
    [
        ((X, X), "", r"a tuple with \{0: \(2, 3\) float32, 1: \(2, 3\) float32\}; say which with"),
        ("text", "", "a str"),
        ({"a": X}, "b", r"no tensor at 'b': the model returns a dict with \{a: \(2, 3\) float32\}"),
        ((X,), "4", "no tensor at '4'"),
    ],
)
def test_a_task_says_what_came_where_it_finds_none(task, returned, output, told):
    with pytest.raises(TrialError, match=told):
        task(output).pick(returned)


def test_a_misspelt_direction_is_refused_at_once():
    with pytest.raises(ValueError, match="metric x: direction is minimize or maximize, not 'minimise'"):
        Metric("x", "", "minimise", Cost.EXACT)


def test_every_kind_with_a_slot_has_a_place_in_the_spec():
    assert len({kind.contract.kind for kind in KINDS}) == len(KINDS)
    for kind in KINDS:
        if kind.slot is not None:
            section = Spec if len(kind.slot) == 1 else Search
            assert kind.slot[-1] in section.model_fields, kind


def test_models_are_fed_by_keyword():
    class Pair(nn.Module):
        def forward(self, x, y):
            return x - y

    assert torch.equal(Inputs(kwargs={"y": X, "x": 3 * X}).feed(Pair()), 2 * X)
