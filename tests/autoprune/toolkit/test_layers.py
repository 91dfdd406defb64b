"""Layers as products of a matrix, against the layers themselves."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from autoprune.toolkit.layers import design, places, positions, put, repairable, rows_of, weight_matrix

LAYERS = {
    "linear": (nn.Linear(6, 4), (3, 6)),
    "linear of tokens": (nn.Linear(6, 4), (3, 5, 6)),
    "conv": (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 7, 6)),
    "strided": (nn.Conv2d(3, 4, (3, 2), stride=(2, 1), padding=(1, 0), bias=False), (2, 3, 7, 6)),
    "dilated": (nn.Conv2d(3, 4, 3, dilation=2, padding=2), (2, 3, 8, 9)),
    "same": (nn.Conv2d(3, 4, 4, padding="same"), (2, 3, 8, 9)),
    "reflected": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 8, 9)),
    "grouped": (nn.Conv2d(6, 4, 3, groups=2), (2, 6, 5, 5)),
    "depthwise": (nn.Conv2d(4, 8, 3, groups=4, padding=1), (2, 4, 5, 5)),
    "conv1d": (nn.Conv1d(3, 4, 5, stride=2, padding=2), (2, 3, 11)),
    "conv3d": (nn.Conv3d(2, 3, (1, 3, 2), padding=(0, 1, 1)), (2, 2, 3, 4, 5)),
    "transposed": (nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), (2, 3, 4, 5)),
    "transposed in groups": (nn.ConvTranspose2d(4, 6, (2, 3), stride=(2, 1), groups=2, dilation=(1, 2)), (2, 4, 4, 5)),
    "transposed 1d": (nn.ConvTranspose1d(3, 2, 4, stride=3, bias=False), (2, 3, 6)),
}


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_weights_are_the_outputs(name):
    layer, shape = LAYERS[name]
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outputs = layer(x)
    index = torch.randperm(positions(layer, outputs), generator=torch.Generator().manual_seed(1))[:13]
    assert places(layer, x) == positions(layer, outputs)
    seen, weight = design(layer, x, index), weight_matrix(layer)
    made = (seen.double() @ weight.mT).transpose(0, 1).flatten(1)
    if layer.bias is not None:
        made = made + layer.bias.detach().double()
    torch.testing.assert_close(made.float(), rows_of(layer, outputs, index), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", LAYERS)
def test_weights_come_back_as_they_were_put(name):
    layer, _ = LAYERS[name]
    before, matrix = layer.weight.detach().clone(), weight_matrix(layer)
    try:
        with torch.no_grad():
            put(layer, 2 * matrix)
            torch.testing.assert_close(layer.weight, 2 * before)
    finally:
        with torch.no_grad():
            layer.weight.copy_(before)


def test_what_has_several_owners_or_is_computed_is_left_out():
    tied, other = nn.Linear(4, 4), nn.Linear(4, 4)
    other.weight = tied.weight
    normed = parametrizations.weight_norm(nn.Linear(4, 4))
    network = nn.Sequential(tied, other, normed, nn.Conv1d(2, 2, 1), nn.BatchNorm1d(2), nn.Embedding(3, 4))
    assert list(repairable(network)) == ["3"]
