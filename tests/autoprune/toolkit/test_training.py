"""The training loop, against plain torch."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from autoprune import TrialError
from autoprune.plugin import Data, Inputs, Split
from autoprune.toolkit.training import Course, Training, train


@dataclass
class Ctx:
    """What a training asks a context for."""

    data: Data
    task: Any
    seed: int = 0
    device = torch.device("cpu")

    def generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def predictor(self, network: nn.Module) -> nn.Module:
        return network


class Classes:
    def training_loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(outputs, targets, reduction="none")

    def counted(self, outputs: Tensor, targets: object) -> None:
        return None


class Named:
    """Two targets by name."""

    def training_loss(self, outputs: Tensor, targets: dict[str, Tensor]) -> Tensor:
        return ((outputs - targets["number"]) ** 2).sum(1) + targets["weight"] * outputs.abs().sum(1)

    def counted(self, outputs: Tensor, targets: object) -> None:
        return None


class Sum(nn.Module):
    """Takes one input by position and one by name."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, x: Tensor, *, shift: Tensor) -> Tensor:
        return self.linear(x) + shift


def splits(inputs: Any, targets: Any) -> Data:
    train = Split.of_tensors(inputs, targets)
    return Data(train, train, train)


@pytest.fixture
def ctx() -> Ctx:
    generator = torch.Generator().manual_seed(0)
    return Ctx(splits(torch.randn(40, 3, generator=generator), torch.arange(40) % 2), Classes())


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 2)).eval()


def test_a_course_goes_on_where_it_paused(ctx: Ctx, net: nn.Module) -> None:
    """A pause changes nothing of the batches to come."""
    options = Training(epochs=2, batch_size=8)
    seen: list[Tensor] = []

    def loss(outputs: Tensor, inputs: Inputs, targets: Tensor) -> Tensor:
        seen.append(inputs.first)
        return cross_entropy(outputs, targets, reduction="none")

    train(copy.deepcopy(net), ctx, options, loss=loss)
    whole = list(seen)
    seen.clear()
    course = Course(ctx, options)
    for until in (0.3, 0.3, 0.75, 1.0, 1.0):
        course.run(net, until=until, loss=loss)
    assert len(seen) == len(whole) == 10
    assert all(torch.equal(a, b) for a, b in zip(seen, whole, strict=True))


def test_rates_go_on_where_a_course_paused(ctx: Ctx, net: nn.Module) -> None:
    """One step at a time, the update of plain SGD is the rate times (1 + momentum) times the gradient."""
    net[2].p = 0.0
    options = Training(epochs=0.8, batch_size=8, lr=0.1, weight_decay=0.0)
    course, steps = Course(ctx, options), 4
    for step in range(steps):
        before = net[3].bias.detach().clone()
        twin = copy.deepcopy(net)

        def loss(outputs: Tensor, inputs: Inputs, targets: Tensor, twin: nn.Module = twin) -> Tensor:
            cross_entropy(twin(inputs.first), targets).backward()
            return cross_entropy(outputs, targets, reduction="none")

        course.run(net, until=(step + 1) / steps, loss=loss)
        rate = 0.1 * (1 + torch.tensor(torch.pi * step / steps).cos()) / 2
        assert torch.allclose(before - net[3].bias, rate * 1.9 * twin[3].bias.grad, atol=1e-6)


def test_pauses_draw_other_noise(ctx: Ctx, net: nn.Module) -> None:
    """Dropout is not the same in the steps of each part."""
    masks: list[Tensor] = []
    net[2].register_forward_hook(lambda _, inputs, output: masks.append((output != 0) | (inputs[0] == 0)))
    course = Course(ctx, Training(epochs=0.4, batch_size=8, lr=1e-9))
    course.run(net, until=0.5)
    course.run(net, until=1.0)
    assert len(masks) == 2
    assert not torch.equal(*masks)


def test_a_penalty_is_added_to_the_mean_loss(ctx: Ctx, net: nn.Module) -> None:
    net[2].p = 0.0
    twin = copy.deepcopy(net)
    options = Training(epochs=0.5, batch_size=20, lr=0.1, weight_decay=0.0)
    train(net, ctx, options, penalty=lambda: 0.3 * net[0].weight.abs().sum())
    (inputs, targets), *_ = ctx.data.train.batches(20, generator=ctx.generator())
    (cross_entropy(twin(inputs.first), targets) + 0.3 * twin[0].weight.abs().sum()).backward()
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, theirs - 0.1 * 1.9 * theirs.grad, atol=1e-6)


def test_inputs_and_targets_by_name() -> None:
    torch.manual_seed(0)
    inputs = Inputs((torch.randn(12, 3),), {"shift": torch.randn(12, 2)})
    targets = {"number": torch.randn(12, 2), "weight": torch.rand(12)}
    ctx, net = Ctx(splits(inputs, targets), Named()), Sum()
    twin = copy.deepcopy(net)
    train(net, ctx, Training(epochs=1, batch_size=12, lr=0.1, weight_decay=0.0))
    outputs = twin(inputs.args[0], shift=inputs.kwargs["shift"])
    loss = 2 * mse_loss(outputs, targets["number"]) + (targets["weight"][:, None] * outputs.abs()).sum() / 12
    loss.backward()
    for ours, theirs in zip(net.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(ours, theirs - 0.1 * 1.9 * theirs.grad, atol=1e-5)


def test_a_penalty_that_is_not_finite_fails_the_trial(ctx: Ctx, net: nn.Module) -> None:
    with pytest.raises(TrialError, match="the loss is nan at step 0 of 5; lower lr"):
        train(net, ctx, Training(batch_size=8), penalty=lambda: net[0].weight.sum() * float("nan"))
    assert not net.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_weights_that_are_held_at_zero_stay_there(ctx: Ctx, net: nn.Module) -> None:
    """As the engine holds masked weights: by a hook on their gradients."""
    mask = torch.arange(24).view(8, 3) % 2 == 0
    with torch.no_grad():
        net[0].weight.mul_(mask)
    net[0].weight.register_hook(lambda gradient: gradient * mask)
    for optimizer in ("sgd", "adamw"):
        train(net, ctx, Training(epochs=2, batch_size=8, lr=0.1, optimizer=optimizer))
        assert not net[0].weight[~mask].any()
        assert net[0].weight[mask].all()
