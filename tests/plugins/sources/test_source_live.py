from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from autoprune import DataError
from autoprune.testing import toy_data
from autoprune.toolkit.fingerprints import of_weights
from autoprune_sources.live import LiveData, LiveModel


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x):
        tokens = self.body(x).flatten(2).transpose(1, 2)
        return self.attention(tokens, tokens, tokens)[0].mean(1)


class Own(nn.Module):
    """Has weights of its own."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return x * self.scale


class Stuck(nn.Linear):
    def __deepcopy__(self, memo):
        raise RuntimeError("has a socket")


def handed(ctx, **objects):
    return replace(ctx, objects=objects)


def test_the_network_is_copied_and_left_as_it_is(ctx):
    net = Net().train()
    net.body[1].eval()
    before = copy.deepcopy(net.state_dict())
    network = LiveModel().load(toy_data(), handed(ctx, model=net))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert (net.training, net.body[1].training) == (True, False)


def test_a_new_start_draws_every_weight_anew_from_the_seed(ctx):
    net = Net()
    for parameter in net.parameters():
        nn.init.constant_(parameter, 7.0)
    net.body[1].running_mean.fill_(7.0)
    first, second = (LiveModel().build(handed(ctx, model=net)) for _ in range(2))
    other = LiveModel().build(replace(handed(ctx, model=net), seed=1))
    for (name, one), two in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
        assert not (one == 7.0).any(), name
    assert not torch.equal(first.body[0].weight, other.body[0].weight)
    assert (net.body[0].weight == 7.0).all(), "the user's own is left as it is"


def test_a_module_that_does_not_say_how_it_begins_is_named(ctx):
    net = nn.Sequential(nn.Linear(3, 3), Own())
    with pytest.raises(DataError, match=r"module 1 \(Own\) has weights of its own and no reset_parameters\(\)"):
        LiveModel().build(handed(ctx, model=net))
    with pytest.raises(DataError, match=r"module of the model \(Own\) has"):
        LiveModel().build(handed(ctx, model=Own()))


def test_other_weights_are_refused_however_small_the_change(ctx):
    net = Net()
    source = LiveModel(weights=of_weights(net))
    source.load(toy_data(), handed(ctx, model=copy.deepcopy(net)))
    with torch.no_grad():
        net.attention.out_proj.bias[0] += 1e-6
    with pytest.raises(DataError, match="model: its weights are not those that the study began with"):
        source.load(toy_data(), handed(ctx, model=net))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_fingerprints_hang_on_names_shapes_kinds_and_bits(dtype):
    net = nn.Linear(4, 2).to(dtype)
    turned = nn.Linear(2, 4).to(dtype)
    turned.weight.data = net.weight.data.reshape(4, 2)
    prints = [
        of_weights(net),
        of_weights(nn.Sequential(net)),
        of_weights(turned),
        of_weights(copy.deepcopy(net).float()),
    ]
    assert len(set(prints)) == 4
    assert of_weights(copy.deepcopy(net)) == prints[0]
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in prints)


def test_what_cannot_be_copied_is_told(ctx):
    with pytest.raises(
        DataError, match=r"this Stuck cannot be copied, .* by \{use: factory\}: RuntimeError: has a socket"
    ):
        LiveModel().load(toy_data(), handed(ctx, model=Stuck(2, 2)))


def test_without_the_objects_a_line_says_where_they_come_from(ctx):
    for source, kind in ((LiveData(), "data"), (LiveModel(), "model")):
        arguments = (ctx,) if kind == "data" else (toy_data(), ctx)
        with pytest.raises(
            DataError, match=rf"^{kind}: {{use: live}} is an object .* autoprune.resume\(study, model=…"
        ):
            source.load(*arguments)
    with pytest.raises(DataError, match=r"hand over one like it: load_pruned\(folder, dense=network\)"):
        LiveModel().build(ctx)


def test_splits_and_options(ctx, check_distinct):
    pixels = torch.arange(60, dtype=torch.uint8).view(60, 1, 1, 1).expand(60, 2, 1, 1)
    source = LiveData(validation=10, test=0.25, normalize={"mean": (0.1, 0.2), "std": (1, 2)}, bounds=(0, 1))
    data = source.load(handed(ctx, data={"train": (pixels, torch.arange(60) % 3)}))
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [35, 10, 15]
    check_distinct(data, 60)
    assert data.normalization.std == (1.0, 2.0)
    assert data.bounds == (0.0, 1.0)


def test_data_goes_through_as_it_is(ctx):
    data = toy_data()
    assert LiveData().load(handed(ctx, data=data)) is data


def test_what_are_no_splits_is_refused(ctx):
    with pytest.raises(DataError, match="data has 'training'; did you mean 'train'"):
        LiveData().load(handed(ctx, data={"training": (torch.zeros(3, 2), torch.zeros(3))}))
