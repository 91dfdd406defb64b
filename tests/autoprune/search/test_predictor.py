from __future__ import annotations

import torch
from torch import nn

from autoprune.plugin import Normalization
from autoprune.search.predictor import Predictor


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
