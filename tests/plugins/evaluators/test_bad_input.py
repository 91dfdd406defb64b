"""Every evaluator under bad input: a number that is right, or one line that says why there is none."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from autoprune import AutopruneError
from autoprune.host.plugins import PluginHost
from autoprune.plugin import Evaluator, Measured, Split, Task
from autoprune.testing import Bench, toy_data
from tests.plugins.test_conformance import OPTIONS, of_numbers

HOST = PluginHost()
OTHERS = {
    "energy": "of counters that this machine may not have: test_energy.py",
    "embedding-attack": "of text: test_text_attacks.py",
    "token-attack": "of text: test_text_attacks.py",
    "attribute-inference": "of tables: test_attribute.py",
    "worst-group": "of groups: test_groups.py",
}
NAMES = sorted(set(HOST.components(Evaluator)) - set(OTHERS))
NUMBERS = ("r2", "mae", "rmse")


def as_they_are(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, targets


def holes(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    inputs[20:60] = float("nan")  # not among the first ones, which the host looks at
    return inputs, targets


def one_class(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return inputs, torch.zeros_like(targets)


def three_samples(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    return inputs[:3], targets[:3]


Change = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@functools.cache
def bench(change: Change, *, numbers: bool) -> Bench:
    """The toy net on changed data, in a regression if targets are numbers; once, for all evaluators."""

    def of(split: Split) -> Split:
        inputs, targets = split.fetch(torch.arange(len(split)))
        changed = Split.of_tensors(*change(inputs.first.clone(), targets.clone()))
        return of_numbers(changed) if numbers else changed

    data = toy_data()
    data = replace(data, **{name: of(data.split(name)) for name in ("train", "validation", "test")})
    return Bench(data=data, task=HOST(Task, "regression")() if numbers else None)


def asked(name: str, change: Change = as_they_are, *, gradients: bool = True) -> dict[str, Measured] | str:
    """What an evaluator measures on changed data, or the one line that says why not."""
    evaluator = Evaluator.model_validate({"use": name, **OPTIONS.get(("evaluator", name), {})}, context=HOST)
    where = bench(change, numbers=name in NUMBERS)
    if reason := evaluator.refuses(where.data):
        return reason
    network = where.cut({})
    if not gradients:
        forward = network.forward
        network.forward = lambda x: forward(x.detach()).detach()  # type: ignore[method-assign]
    try:
        return where.measure(evaluator, network=network)
    except AutopruneError as error:
        return str(error)


def costs(name: str) -> bool:
    """Whether all that it makes says what a model costs, so that values of samples do not matter."""
    evaluator = Evaluator.model_validate({"use": name, **OPTIONS.get(("evaluator", name), {})}, context=HOST)
    return all(metric.is_cost for metric in evaluator.declares(toy_data()))


def test_what_is_left_out_is_there() -> None:
    assert set(OTHERS) <= set(HOST.components(Evaluator))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if not costs(name)])
def test_inputs_that_are_no_number_give_none(name: str) -> None:
    told = asked(name, holes)
    assert isinstance(told, str), told
    assert "\n" not in told


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_without_gradients_there_is_a_number_or_a_line(name: str) -> None:
    found = asked(name, gradients=False)
    if isinstance(found, str):
        assert "gradient" in found or "does not require grad" in found
        assert "\n" not in found
    else:
        assert all(math.isfinite(value.value) for value in found.values())


@pytest.mark.slow
@pytest.mark.parametrize("change", [one_class, three_samples], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", NAMES)
def test_one_class_or_fewer_samples_than_asked_give_a_number_or_a_line(name: str, change: Change) -> None:
    found = asked(name, change)
    if isinstance(found, str):
        assert "\n" not in found
        return
    for value in found.values():
        assert math.isfinite(value.value)
        sides = 2 if name == "membership-inference" else 1  # members and others
        if change is three_samples and not costs(name):
            assert value.samples is None or value.samples <= 3 * sides
