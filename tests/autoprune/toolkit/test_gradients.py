"""Gradients of the task's loss against ``backward``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from autoprune import TrialError
from autoprune.plugin import Split
from autoprune.toolkit.gradients import loss_gradients
from autoprune_tasks.classification import Classification
from autoprune_tasks.regression import Regression


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 4)).eval()


@pytest.fixture
def train() -> Split:
    generator = torch.Generator().manual_seed(0)
    return Split.of_tensors(torch.randn(10, 3, generator=generator), torch.arange(10) % 4)


def test_each_batch_s_are_those_of_its_mean_loss(net: nn.Module, train: Split) -> None:
    found = list(loss_gradients(net, dict(net.named_parameters()), train.batches(4), task=Classification()))
    assert len(found) == 3
    for gradients, (inputs, targets) in zip(found, train.batches(4), strict=True):
        net.zero_grad()
        cross_entropy(inputs.feed(net), targets).backward()
        assert gradients.keys() == dict(net.named_parameters()).keys()
        assert all(torch.allclose(gradients[name], p.grad, atol=1e-7) for name, p in net.named_parameters())


def test_the_task_says_what_the_loss_is(net: nn.Module) -> None:
    train = Split.of_tensors(torch.randn(6, 3), torch.randn(6, 4))
    (found,) = loss_gradients(net, {"bias": net[2].bias}, train.batches(6), task=Regression())
    inputs, targets = train.fetch(torch.arange(6))
    by_hand = 2 * (inputs.feed(net) - targets).mean(0) / 4
    assert torch.allclose(found["bias"], by_hand.detach(), atol=1e-6)


def test_frozen_parameters_are_differentiated_by_and_frozen_again(net: nn.Module, train: Split) -> None:
    free = next(loss_gradients(net, dict(net.named_parameters()), train.batches(10), task=Classification()))
    net.requires_grad_(False)
    net[0].weight.grad = kept = torch.ones(5, 3)
    with torch.no_grad():
        running = loss_gradients(net, dict(net.named_parameters()), train.batches(10), task=Classification())
        frozen = next(running)
        running.close()  # whoever stops early leaves no trace either
    assert all(torch.equal(frozen[name], free[name]) for name in free)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert net[0].weight.grad is kept


def test_parameters_that_the_loss_does_not_hang_on_are_left_out(net: nn.Module, train: Split) -> None:
    class Around(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return net[2](net[0](x).detach())

    whole = nn.Parameter(torch.ones(3, dtype=torch.int64), requires_grad=False)
    parameters = {**dict(net.named_parameters()), "whole": whole}
    found = next(loss_gradients(Around(), parameters, train.batches(10), task=Classification()))
    assert found.keys() == {"2.weight", "2.bias"}
    first = {"0.weight": net[0].weight}
    assert list(loss_gradients(Around(), first, train.batches(5), task=Classification())) == [{}, {}]
    net[2].requires_grad_(False)
    assert list(loss_gradients(Around(), first, train.batches(5), task=Classification())) == [{}, {}]


def test_labels_that_do_not_fit_are_told(net: nn.Module) -> None:
    train = Split.of_tensors(torch.zeros(2, 3), torch.tensor([0, 4]))
    with pytest.raises(TrialError, match="class 4, but the model has 4 outputs"):
        next(loss_gradients(net, dict(net.named_parameters()), train.batches(2), task=Classification()))
