"""Memory of a forward pass, against sums by hand and against the allocator's own account."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from autoprune.plugin import Inputs
from autoprune.study.predictor import Predictor
from autoprune_evaluators import ActivationMemory, PeakMemory
from autoprune_evaluators._alive import held, most_alive, most_allocated

if TYPE_CHECKING:
    from conftest import Case

CPU = torch.device("cpu")


class Shortcut(nn.Module):
    """Input, what is added to it, and the sum are alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(10, 40), nn.Linear(40, 10)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.two(self.one(x))


def test_what_is_alive_by_hand() -> None:
    inputs = Inputs((torch.rand(5, 10),), {})
    chain = nn.Sequential(nn.Linear(10, 40), nn.ReLU(), nn.Linear(40, 3)).eval()
    assert most_alive(chain, inputs) == 4 * 5 * (10 + 40 + 40)
    assert most_alive(nn.Sequential(nn.Linear(10, 40), nn.ReLU(inplace=True)).eval(), inputs) == 4 * 5 * (10 + 40)
    assert most_alive(Shortcut().eval(), inputs) == 4 * 5 * (10 + 40 + 10)


@pytest.mark.parametrize(
    "network",
    [
        Shortcut(),
        nn.Sequential(nn.Linear(10, 400), nn.GELU(), nn.LayerNorm(400), nn.Linear(400, 3), nn.Softmax(1)),
        nn.Sequential(nn.Unflatten(1, (2, 5)), nn.Conv1d(2, 30, 1), nn.BatchNorm1d(30), nn.ReLU(), nn.MaxPool1d(5)),
    ],
)
def test_the_allocator_gives_out_what_is_alive_and_what_kernels_need(network: nn.Module) -> None:
    inputs = Inputs((torch.rand(64, 10),), {})
    alive, given = most_alive(network.eval(), inputs), most_allocated(network, inputs, CPU)
    assert alive - inputs.first.nbytes <= given


def test_a_shared_tensor_is_held_once() -> None:
    inputs = Inputs((torch.rand(5, 10),), {})
    tied = nn.Sequential(one := nn.Linear(10, 10), nn.Linear(10, 10))
    tied[1].weight = one.weight
    assert held(tied, inputs) == 4 * (100 + 2 * 10 + 50)


@pytest.mark.parametrize(("use", "name"), [(ActivationMemory, "activation"), (PeakMemory, "peak_memory")])
def test_a_wider_network_takes_more_and_the_dense_one_is_1(digits: Case, use: type, name: str) -> None:
    wide, narrow = (
        Predictor(nn.Sequential(nn.Conv2d(1, width, 3), nn.ReLU(), nn.Flatten(), nn.Linear(36 * width, 10))).eval()
        for width in (64, 8)
    )
    found = digits.measure(use(batch_size=4), narrow, dense=wide)
    assert found[f"{name}_mb"].value > 0
    assert found[f"{name}_ratio"].value < 0.5
    itself = digits.measure(use(batch_size=4), wide, dense=wide, of_dense=True)
    assert itself[f"{name}_ratio"].value == 1
    batches = [digits.measure(use(batch_size=size), wide, dense=wide)[f"{name}_mb"].value for size in (1, 16)]
    assert batches[0] < batches[1]


def test_activations_of_one_sample_of_resnet20(cifar: Case) -> None:
    found = cifar.measure(ActivationMemory())
    # Alive at once in the second block: the image, what went into the first block (its caller holds it), the block's
    # input, the padded copy of it for the shortcut, and a layer's input and output.
    assert found["activation_mb"].value == 4 * (3 * 32 * 32 + 5 * 16 * 32 * 32) / 1e6
    assert found["activation_ratio"].value == 1


def test_the_profiler_says_nothing(capfd: pytest.CaptureFixture[str], digits: Case) -> None:
    digits.measure(PeakMemory())
    assert capfd.readouterr() == ("", "")
