from __future__ import annotations

import pytest
import torch
from torch import nn

from autoprune.plugin import Inputs, Normalization
from autoprune.study.predictor import Predictor, takes_channels_last


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x, y):
        return self.conv(x).mean((2, 3)) + y


def test_only_the_first_input_is_normalised_per_channel():
    network = Pair()
    x, y = torch.rand(2, 3, 5, 5), torch.rand(2, 4)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    expected = network(torch.stack([(x[:, c] - mean[c]) / std[c] for c in range(3)], dim=1), y)
    torch.testing.assert_close(Predictor(network, Normalization(mean, std))(x, y), expected)


def test_features_without_space_are_normalised_too():
    predictor = Predictor(nn.Identity(), Normalization((1.0, 2.0), (2.0, 4.0)))
    torch.testing.assert_close(predictor(torch.tensor([[3.0, 2.0]])), torch.tensor([[1.0, 0.0]]))


def test_without_normalisation_inputs_pass():
    x = torch.rand(2, 3)
    assert Predictor(nn.Identity())(x) is x


def test_it_adds_no_parameter_and_no_saved_tensor_and_shares_the_networks():
    network = Pair().eval()
    predictor = Predictor(network, Normalization((0.0,) * 3, (1.0,) * 3))
    assert predictor.network is network
    assert [id(p) for p in predictor.parameters()] == [id(p) for p in network.parameters()]
    assert set(predictor.state_dict()) == {f"network.{name}" for name in network.state_dict()}
    assert not predictor.training
    assert not network.training


def test_mean_and_deviation_follow_the_device():
    predictor = Predictor(Pair(), Normalization((0.0,) * 3, (1.0,) * 3)).to("meta")
    assert predictor.mean.device.type == "meta"


class Seen(nn.Module):
    """Convolves, and notes the layout that it got."""

    def __init__(self, flatten):
        super().__init__()
        self.conv, self.flatten, self.layouts = nn.Conv2d(3, 4, 3), flatten, []

    def forward(self, x):
        self.layouts.append(x.is_contiguous(memory_format=torch.channels_last))
        return self.flatten(self.conv(x))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_images_get_their_channels_last_where_the_network_takes_them_so(precision, training):
    network, images = Seen(lambda maps: maps.flatten(1)), torch.rand(2, 3, 5, 5)
    last = Predictor(network, precision=precision, channels_last=True)
    plain = Predictor(network, precision=precision)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(
            last(images), plain(images), rtol=1e-5, atol=1e-2 if precision != torch.float32 else 1e-5
        )
    assert network.layouts == [True, False]


def test_inputs_that_are_no_images_stay_as_they_are():
    x = torch.rand(2, 3)
    assert Predictor(nn.Identity(), channels_last=True)(x) is x


@pytest.mark.parametrize(
    ("flatten", "takes"),
    [
        (lambda maps: maps.flatten(1), True),
        (lambda maps: maps.view(len(maps), -1), False),
        (lambda maps: maps.as_strided((len(maps), 36), (36, 1)), False),
        (lambda maps: maps.flatten(1) * float("nan"), False),
    ],
    ids=["flatten", "view", "memory order", "nan"],
)
def test_a_network_takes_channels_last_if_it_predicts_the_same(flatten, takes):
    assert takes_channels_last((Seen(torch.flatten), Seen(flatten)), Inputs.of(torch.rand(2, 3, 5, 5))) is takes


def test_vectors_have_no_channels_last():
    assert not takes_channels_last((nn.Linear(3, 2),), Inputs.of(torch.rand(2, 3)))
