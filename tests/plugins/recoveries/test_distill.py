"""Distillation against the loss of the paper, written out."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, softmax

from autoprune.plugin import Data, PruneContext, Pruned, Split
from autoprune_recoveries.distill import Distill, softened
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression


@pytest.mark.parametrize(("weight", "temperature"), [(0.9, 2.0), (0.3, 5.0), (1.0, 1.0)])
def test_two_steps_are_those_of_the_paper(
    weight: float, temperature: float, make_context: Callable[..., PruneContext], net: nn.Module
) -> None:
    net.drop.p = 0.0
    teacher = copy.deepcopy(net)
    with torch.no_grad():
        teacher.head.weight.mul_(-3)
    twin, ctx = copy.deepcopy(net), make_context(dense=teacher)
    epochs = 2 * 64 / len(ctx.data.train)
    distill = Distill(
        epochs=epochs, batch_size=64, lr=0.05, schedule="constant", weight=weight, temperature=temperature
    )
    distill.recover(Pruned(net), ctx)

    twin.train()
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
    batches = ctx.data.train.batches(64, generator=torch.Generator().manual_seed(0))
    for _, (inputs, targets) in zip(range(2), batches, strict=False):
        images = (inputs.first - 0.3) / 0.35
        scores = twin(images)
        theirs, ours = (softmax(s / temperature, 1) for s in (teacher(images).detach(), scores))
        kl = (theirs * (theirs / ours).log()).sum(1).mean()
        optimizer.zero_grad()
        (weight * temperature**2 * kl + (1 - weight) * cross_entropy(scores, targets)).backward()
        optimizer.step()
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(net.parameters(), twin.parameters(), strict=True))


@pytest.mark.slow
def test_the_teacher_is_followed_without_targets(make_context: Callable[..., PruneContext], net: nn.Module) -> None:
    """With weight 1 the network comes to answer as the teacher does, whatever the targets say."""
    teacher = copy.deepcopy(net)
    with torch.no_grad():
        teacher.head.weight.copy_(torch.randn(10, 128, generator=torch.Generator().manual_seed(1)))
    ctx = make_context(dense=teacher)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    Distill(epochs=10, batch_size=32, weight=1, lr=0.05).recover(Pruned(net), ctx)
    ((inputs, _),) = ctx.data.validation.batches(1000)
    with torch.no_grad():
        ours, theirs = (inputs.feed(ctx.predictor(each)).argmax(1) for each in (net, teacher))
    assert (ours == theirs).float().mean() > 0.8
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())
    assert not any(parameter.grad is not None for parameter in teacher.parameters())


def test_softening_keeps_gradients_large_and_leaves_divergences_without_a_scale_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs, dense = (torch.randn(16, 5, generator=generator) for _ in range(2))
    near = dense + 1e-3 * outputs
    # For hot outputs T² KL tends to half the squared distance of the centred scores, over C.
    centred = (near - dense) - (near - dense).mean(1, keepdim=True)
    expected = centred.square().sum(1).double() / (2 * 5)
    assert torch.allclose(softened(Classification(), near, dense, None, 100.0), expected, rtol=0.05)
    assert torch.allclose(
        softened(Regression(), outputs, dense, None, 3.0), Regression().divergence(outputs, dense), rtol=1e-4
    )


def test_numbers_are_distilled_too(make_context: Callable[..., PruneContext], net: nn.Module, data: Data) -> None:
    train = data.train.fetch(torch.arange(len(data.train)))
    numbers = dataclasses.replace(data, train=Split.of_tensors(train[0], train[0].first.flatten(1)[:, :10]))
    teacher = copy.deepcopy(net)
    with torch.no_grad():
        teacher.head.weight.mul_(-3)
    ctx = dataclasses.replace(make_context(task=Regression(), dense=teacher), data=numbers)
    ((inputs, _),) = data.validation.batches(1000)

    def distance() -> float:
        with torch.no_grad():
            ours, theirs = (inputs.feed(ctx.predictor(each)) for each in (net, teacher))
        return float((ours - theirs).square().mean())

    before = distance()
    Distill(epochs=3, batch_size=32, weight=1.0, temperature=4.0).recover(Pruned(net), ctx)
    assert distance() < before / 2
